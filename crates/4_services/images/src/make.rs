//! Makes a tree from the archive: verify, resolve, fetch and unpack at once, configure, clean.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use archive::deb::Unpacked;
use archive::job::{Answer, Chosen, Index, Request};
use archive::release::Clock;
use archive::resolve::Wanted;
use fault::{Fault, OrFault, Result};
use model::{Progress, Watcher};
use unpack::codec::Codec;

use crate::bootstrap::{Summary, Variant};
use crate::codes;
use crate::configure::{self, Configure};
use crate::confine::{Reach, Tools};
use crate::fetch::{Download, Fetcher, Patience, is_right};
use crate::host::Host;
use crate::overlap;
use crate::suites::{Suite, Wish, tree_sources, ways, without_login};
use crate::tree;
use crate::worker::{Worker, unexpected};

/// All that decides about a tree.
pub(crate) struct Plan<'a> {
    pub(crate) codename: String,
    pub(crate) arch: String,
    pub(crate) variant: Variant,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) wish: Wish,
    pub(crate) cache_dir: &'a Path,
    pub(crate) tools: Tools<'a>,
    pub(crate) patience: Patience,
    /// Seconds since 1970 that validity is judged by; the clock when absent.
    pub(crate) now: Option<i64>,
    /// The tree gets apt's package lists, so that `apt-get install` works at once.
    pub(crate) package_lists: bool,
}

/// A suite whose Release file was verified, with its plain indexes.
struct Ready {
    suite: Suite,
    by_hash: bool,
    indexes: Vec<Index>,
}

struct Maker<'a> {
    plan: &'a Plan<'a>,
    watcher: &'a dyn Watcher,
    fetcher: Fetcher,
    worker: Worker,
    cache: Cache,
    clock: Clock,
    notes: Vec<String>,
    /// The network is away: what the cache has must do.
    offline: bool,
}

/// Makes the tree `root`, an empty directory that is there. The caller removes it after a fault.
pub(crate) fn make(root: &Path, plan: &Plan<'_>, watcher: &dyn Watcher) -> Result<Summary> {
    let host = Host::read();
    let cache = Cache::open(plan.cache_dir)?;
    let ways = ways(&host, &plan.codename, &plan.wish);
    let now = plan.now.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    let mut read = vec![cache.lists.clone(), cache.debs.clone()];
    read.extend(
        ways.iter()
            .flatten()
            .flat_map(|suite| &suite.keyrings)
            .filter(|k| k.starts_with('/') && Path::new(k).exists())
            .map(PathBuf::from),
    );
    read.sort();
    read.dedup();
    let reach = Reach {
        tree: Some(root.to_owned()),
        read,
        write: vec![cache.out.clone()],
    };
    let mut maker = Maker {
        plan,
        watcher,
        fetcher: Fetcher::new(&host, plan.patience)?,
        worker: Worker::start(plan.tools, &cache.scratch.path().join("root"), &reach)?,
        cache,
        clock: Clock {
            now,
            check_valid_until: plan.now.is_some() || host.is_on("Acquire::Check-Valid-Until", true),
            check_date: plan.now.is_some() || host.is_on("Acquire::Check-Date", true),
        },
        notes: Vec::new(),
        offline: false,
    };
    // Runs at the same time share the lists: one after the other refreshes and reads them.
    let turn = crate::store::lock_file(&maker.cache.lists.join("lock"), watcher)?;
    let suites = maker.find(ways)?;
    let packages = maker.resolve(&suites)?;
    drop(turn);
    let unpacked = maker.unpack(root, &suites, &packages)?;
    let lists = match plan.package_lists {
        true => maker.package_lists(&suites),
        false => Vec::new(),
    };
    let sources: Vec<Suite> = suites.into_iter().map(|ready| ready.suite).collect();
    let fetched = maker.fetcher.fetched();
    let Maker { worker, notes, .. } = maker;
    // Nobody but the jail touches the tree from here on.
    drop(worker);
    tree::write_status(root, &unpacked)?;
    tree::add_files(root, crate::machine::of_image(&plan.include))?;
    let order: Vec<&Unpacked> = packages
        .iter()
        .filter_map(|p| unpacked.iter().find(|u| u.name == p.name))
        .collect();
    configure::configure(
        &Configure {
            root,
            order: &order,
            tools: plan.tools,
        },
        watcher,
    )?;
    tree::mark_automatic(
        root,
        &plan.arch,
        packages.iter().filter(|p| p.auto).map(|p| p.name.as_str()),
    )?;
    tree::finish(root, &tree_sources(&sources, &plan.codename))?;
    for list in &lists {
        tree::add_package_list(root, &list.name, &list.from, list.codec)?;
    }
    let mut names: Vec<(String, String)> = packages.into_iter().map(|p| (p.name, p.version)).collect();
    names.sort();
    Ok(Summary {
        packages: names,
        fetched,
        size: tree::size(root)?,
        notes,
    })
}

impl Maker<'_> {
    /// The suites of the first way whose release is there and signed by its keyring.
    fn find(&mut self, ways: Vec<Vec<Suite>>) -> Result<Vec<Ready>> {
        let mut first_fault = None;
        for way in ways {
            match self.go(&way) {
                Ok(suites) => return Ok(suites),
                Err(fault) if fault.is(model::CANCELLED) => return Err(fault),
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                }
            }
        }
        Err(first_fault
            .unwrap_or_else(|| Fault::new(codes::RELEASE_UNKNOWN).arg("image", &self.plan.codename)))
    }

    fn go(&mut self, way: &[Suite]) -> Result<Vec<Ready>> {
        let mut ready = Vec::new();
        for suite in way {
            match self.suite(suite) {
                Ok(found) => ready.push(found),
                Err(fault)
                    if suite.optional && (is_not_found(&fault) || (self.offline && is_away(&fault))) =>
                {
                    self.notes.push(format!("no-suite {}", suite.name));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(ready)
    }

    /// Fetches and verifies the Release file of a suite. The last good one is taken when the network is away.
    fn suite(&mut self, suite: &Suite) -> Result<Ready> {
        self.tell("step-verify", &suite.name);
        let base = format!("{}/dists/{}", suite.base, suite.name);
        let kept = self.cache.lists.join(format!("{}_InRelease", flat(&base)));
        let fresh = self.cache.lists.join(format!("{}_InRelease.new", flat(&base)));
        let inrelease = Download {
            urls: vec![format!("{base}/InRelease")],
            hash: None,
            to: fresh.clone(),
            label: format!("{}/InRelease", suite.name),
        };
        let fetched = match self.offline {
            true => Err(Fault::new(codes::NETWORK).arg("url", without_login(&base))),
            false => self.fetch(&[inrelease]),
        };
        match fetched {
            Ok(()) => {
                let verified = self.verify(&fresh, None, suite);
                let moved = match &verified {
                    Ok(_) => std::fs::rename(&fresh, &kept),
                    Err(_) => std::fs::remove_file(&fresh),
                };
                moved.or_fault(|| Fault::new(codes::IO).arg("path", fresh.display()))?;
                verified
            }
            Err(fault) if is_not_found(&fault) => self
                .detached(suite, &base)
                .map_err(|other| if is_not_found(&other) { fault } else { other }),
            Err(fault) if is_away(&fault) && kept.exists() => {
                self.offline = true;
                self.notes.push(format!("offline {}", suite.name));
                self.verify(&kept, None, suite)
            }
            Err(fault) => Err(fault),
        }
    }

    /// `Release` with `Release.gpg`, from archives without `InRelease`.
    fn detached(&mut self, suite: &Suite, base: &str) -> Result<Ready> {
        let part = |name: &str| Download {
            urls: vec![format!("{base}/{name}")],
            hash: None,
            to: self.cache.lists.join(format!("{}_{name}", flat(base))),
            label: format!("{}/{name}", suite.name),
        };
        let (release, signature) = (part("Release"), part("Release.gpg"));
        let (at, signed) = (release.to.clone(), signature.to.clone());
        self.fetch(&[release, signature])?;
        let verified = self.verify(&at, Some(&signed), suite);
        if verified.is_err() {
            let _ = (std::fs::remove_file(&at), std::fs::remove_file(&signed));
        }
        verified
    }

    fn verify(&mut self, release: &Path, detached: Option<&Path>, suite: &Suite) -> Result<Ready> {
        let mut keyrings = Vec::new();
        for (number, keyring) in suite.keyrings.iter().enumerate() {
            if keyring.starts_with('/') {
                keyrings.push(PathBuf::from(keyring));
                continue;
            }
            let path = self.cache.out.join(format!("key{number}.asc"));
            std::fs::write(&path, keyring).or_fault(|| Fault::new(codes::IO).arg("path", path.display()))?;
            keyrings.push(path);
        }
        let request = Request::Verify {
            release: release.to_owned(),
            detached: detached.map(Path::to_owned),
            keyrings,
            suite: suite.name.clone(),
            components: suite.components.clone(),
            arch: self.plan.arch.clone(),
            clock: self.clock,
        };
        match self.worker.ask(&request, self.watcher)? {
            Answer::Verified { by_hash, indexes, .. } => Ok(Ready {
                suite: suite.clone(),
                by_hash,
                indexes,
            }),
            _ => Err(unexpected()),
        }
    }

    fn fetch(&self, downloads: &[Download]) -> Result<()> {
        self.fetcher
            .fetch(downloads, self.watcher, "step-indexes", &mut |_| Ok(()))
    }

    /// The plain form of every index, in the cache under its hash.
    fn indexes(&mut self, suites: &[Ready]) -> Result<Vec<(PathBuf, usize)>> {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for (origin, ready) in suites.iter().enumerate() {
            for index in &ready.indexes {
                let plain_hash = index.plain.as_ref().unwrap_or(&index.hash);
                let plain = self.cache.lists.join(format!("{}.plain", plain_hash.sha256));
                found.push((plain.clone(), origin));
                if !index
                    .plain
                    .as_ref()
                    .map_or(plain.exists(), |hash| is_right(&plain, hash))
                {
                    missing.push((ready, index, plain));
                }
            }
        }
        let downloads: Vec<Download> = missing
            .iter()
            .map(|(ready, index, _)| self.index(ready, index))
            .collect();
        self.fetch(&downloads)?;
        for ((_, index, plain), download) in missing.iter().zip(&downloads) {
            let to = self.cache.out.join("plain");
            let request = Request::Decode {
                from: download.to.clone(),
                to: to.clone(),
            };
            self.worker.ask(&request, self.watcher)?;
            if let Some(hash) = &index.plain
                && !is_right(&to, hash)
            {
                return Err(Fault::new(archive::MISMATCH)
                    .arg("file", &index.name)
                    .arg("url", &download.label)
                    .because_of("its plain form differs from what the Release file says"));
            }
            std::fs::rename(&to, plain).or_fault(|| Fault::new(codes::IO).arg("path", plain.display()))?;
            let _ = std::fs::remove_file(&download.to);
        }
        Ok(found)
    }

    fn index(&self, ready: &Ready, index: &Index) -> Download {
        let base = format!("{}/dists/{}", ready.suite.base, ready.suite.name);
        let mut urls = vec![format!("{base}/{}", index.name)];
        if ready.by_hash
            && let Some((directory, _)) = index.name.rsplit_once('/')
        {
            urls.insert(
                0,
                format!("{base}/{directory}/by-hash/SHA256/{}", index.hash.sha256),
            );
        }
        Download {
            urls,
            hash: Some(index.hash.clone()),
            to: self.cache.lists.join(&index.hash.sha256),
            label: format!("{}/{}", ready.suite.name, index.name),
        }
    }

    /// What `apt-get update` would fetch for these suites, out of the verified cache.
    fn package_lists(&self, suites: &[Ready]) -> Vec<PackageList> {
        let mut found = Vec::new();
        for ready in suites {
            let base = format!("{}/dists/{}", ready.suite.base, ready.suite.name);
            let release = self.cache.lists.join(format!("{}_InRelease", flat(&base)));
            // An archive with a detached signature: apt asks for it at its first update.
            if !release.exists() {
                continue;
            }
            found.push(PackageList {
                name: format!("{}_InRelease", apt_name(&base)),
                from: release,
                codec: Codec::Plain,
            });
            for index in &ready.indexes {
                let hash = index.plain.as_ref().unwrap_or(&index.hash);
                let name = index
                    .name
                    .rsplit_once('.')
                    .map_or(index.name.as_str(), |(name, _)| name);
                found.push(PackageList {
                    name: format!("{}_{}.gz", apt_name(&base), apt_name(name)),
                    from: self.cache.lists.join(format!("{}.plain", hash.sha256)),
                    codec: Codec::Gz,
                });
            }
        }
        found
    }

    fn resolve(&mut self, suites: &[Ready]) -> Result<Vec<Chosen>> {
        let indexes = self.indexes(suites)?;
        self.tell("step-resolve", "");
        let mut priorities = vec!["required".to_owned()];
        let mut include = vec!["apt".to_owned()];
        match self.plan.variant {
            Variant::Minbase => {}
            Variant::Standard => priorities.push("important".to_owned()),
            Variant::Buildd => include.push("build-essential".to_owned()),
        }
        include.retain(|name| !self.plan.exclude.contains(name));
        include.extend(self.plan.include.iter().cloned());
        let request = Request::Resolve {
            indexes,
            arch: self.plan.arch.clone(),
            wanted: Wanted {
                priorities,
                include,
                exclude: self.plan.exclude.clone(),
            },
        };
        match self.worker.ask(&request, self.watcher)? {
            // What the worker says becomes file names: it must not lead anywhere else.
            Answer::Resolved { packages, strangers }
                if packages.iter().all(|p| is_plain(p, suites.len())) =>
            {
                let note = |name| format!("nothing-to-exclude {name}");
                self.notes.extend(strangers.into_iter().map(note));
                Ok(packages)
            }
            _ => Err(unexpected()),
        }
    }

    /// Fetches packages and has each unpacked as soon as it is there; base-files first, which sets the modes of
    /// the directories that all share.
    fn unpack(&mut self, root: &Path, suites: &[Ready], packages: &[Chosen]) -> Result<Vec<Unpacked>> {
        tree::prepare(root, &self.plan.arch)?;
        let downloads: Vec<Download> = packages
            .iter()
            .map(|package| Download {
                urls: vec![format!(
                    "{}/{}",
                    suites[package.origin].suite.base, package.filename
                )],
                hash: Some(package.hash.clone()),
                to: self.cache.deb(package),
                label: package.name.clone(),
            })
            .collect();
        let mut unpacked = Vec::with_capacity(packages.len());
        if let Some(first) = packages.iter().position(|p| p.name == "base-files") {
            self.fetch(&downloads[first..=first])?;
            let answer = self.worker.ask(&request(&downloads[first]), self.watcher)?;
            unpacked.push(package(answer)?);
        }
        let mut rest: Vec<Download> = downloads
            .into_iter()
            .filter(|d| d.label != "base-files")
            .collect();
        // The largest first, so that no thread is left alone with it at the end.
        rest.sort_by_key(|d| std::cmp::Reverse(d.hash.as_ref().map_or(0, |h| h.size)));
        let (worker, watcher) = (&mut self.worker, self.watcher);
        self.fetcher.fetch(&rest, watcher, "step-fetch", &mut |index| {
            worker.send(&request(&rest[index]))?;
            while let Some(answer) = worker.poll()? {
                unpacked.push(package(answer)?);
            }
            Ok(())
        })?;
        while unpacked.len() < packages.len() {
            watcher.progress(Progress {
                step: "step-unpack".to_owned(),
                done: unpacked.len() as u64,
                total: packages.len() as u64,
                unit: "packages".to_owned(),
                detail: unpacked.last().map(|u| u.name.clone()).unwrap_or_default(),
            });
            unpacked.push(package(worker.receive(watcher)?)?);
        }
        // Packages were unpacked in any order: of a file that two have, the one that replaces the other's comes last.
        let mut again: Vec<String> = overlap::settle(root, &unpacked)?
            .into_iter()
            .map(|o| o.winner)
            .collect();
        again.sort();
        again.dedup();
        let several = !again.is_empty();
        for name in again {
            if let Some(download) = rest.iter().find(|d| d.label == name) {
                worker.ask(&request(download), watcher)?;
            }
        }
        if several {
            // A winner's list is whole again: it may have lost other files.
            overlap::settle(root, &unpacked)?;
        }
        let known: HashMap<&str, &Chosen> = packages.iter().map(|p| (p.name.as_str(), p)).collect();
        for one in &unpacked {
            let agrees = known
                .get(one.name.as_str())
                .is_some_and(|p| p.version == one.version);
            if !agrees {
                return Err(Fault::new(archive::BAD_PACKAGE)
                    .arg("package", &one.name)
                    .arg("what", "it is another package than the index says"));
            }
        }
        Ok(unpacked)
    }

    fn tell(&self, step: &str, detail: &str) {
        self.watcher.progress(Progress {
            step: step.to_owned(),
            detail: detail.to_owned(),
            ..Progress::default()
        });
    }
}

fn request(download: &Download) -> Request {
    Request::Unpack {
        deb: download.to.clone(),
        label: download.label.clone(),
    }
}

fn package(answer: Answer) -> Result<Unpacked> {
    match answer {
        Answer::Unpacked { package, .. } => Ok(*package),
        _ => Err(unexpected()),
    }
}

/// Whether a server could not be reached, or keeps silent.
fn is_away(fault: &Fault) -> bool {
    fault.is(codes::NETWORK) || fault.is(codes::STALLED)
}

fn is_not_found(fault: &Fault) -> bool {
    fault.is(codes::HTTP)
        && fault
            .args()
            .any(|(name, value)| name == "status" && (value.starts_with("404") || value.starts_with("410")))
}

/// Whether a package that the worker names can be fetched and kept without harm.
fn is_plain(package: &Chosen, origins: usize) -> bool {
    let path = &package.filename;
    let safe = !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let hash = &package.hash.sha256;
    safe && package.origin < origins && hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An address as one file name, without a login in it.
fn flat(url: &str) -> String {
    without_login(url)
        .split_once("://")
        .map_or(url, |(_, rest)| rest)
        .replace(['/', ':', '?', '&', '%'], "_")
}

/// An address or path as apt names the file of its list: without scheme and login, `_` for `/` (URItoFileName of
/// apt-pkg/contrib/strutl.cc).
fn apt_name(url: &str) -> String {
    let plain = without_login(url);
    plain
        .split_once("://")
        .map_or(plain.as_str(), |(_, rest)| rest)
        .replace('_', "%5f")
        .replace('~', "%7e")
        .replace('/', "_")
}

/// One file of apt's package lists.
struct PackageList {
    /// Its name in the tree.
    name: String,
    from: PathBuf,
    codec: Codec,
}

/// The cache of downloads.
struct Cache {
    lists: PathBuf,
    debs: PathBuf,
    scratch: tree::Scratch,
    /// What the worker writes.
    out: PathBuf,
}

impl Cache {
    fn open(cache_dir: &Path) -> Result<Self> {
        let (lists, debs) = (cache_dir.join("lists"), cache_dir.join("debs"));
        for directory in [&lists, &debs] {
            std::fs::create_dir_all(directory)
                .or_fault(|| Fault::new(codes::IO).arg("path", directory.display()))?;
        }
        let scratch = tree::Scratch::new(cache_dir)?;
        let out = scratch.path().join("out");
        std::fs::create_dir(&out).or_fault(|| Fault::new(codes::IO).arg("path", out.display()))?;
        Ok(Cache {
            lists,
            debs,
            scratch,
            out,
        })
    }

    /// Where a package is kept: its own name, made unique by the beginning of its hash.
    fn deb(&self, package: &Chosen) -> PathBuf {
        let name = package.filename.rsplit('/').next().unwrap_or_default();
        self.debs.join(format!("{}-{name}", &package.hash.sha256[..16]))
    }
}
