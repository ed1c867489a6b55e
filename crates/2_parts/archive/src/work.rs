//! What `posada-worker` does with its requests. Everything here touches bytes from outside and runs confined, without
//! privileges.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};

use fault::{Fault, OrFault, Result};
use unpack::{Options, PackOptions, Report, Root, codec, tar};

use crate::job::{Answer, Chosen, Index, PROTOCOL, Request};
use crate::release::{Clock, FileHash, Release};
use crate::resolve::{Universe, Wanted};
use crate::signature::Keyring;
use crate::{MALFORMED, deb, packages};

/// Serves requests until the input ends. `threads` packages are unpacked at a time; `tree` is the root that
/// they go to.
///
/// # Errors
/// [`PROTOCOL`] when the other side cannot be understood or is gone; faults of requests are answers.
pub fn serve(input: impl BufRead, output: impl Write + Send, tree: &Path, threads: usize) -> Result<()> {
    let output = Mutex::new(output);
    let (queue, work) = mpsc::channel::<(PathBuf, String)>();
    let work = Mutex::new(work);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = work.lock().unwrap_or_else(|e| e.into_inner()).recv();
                    let Ok((path, label)) = next else { return };
                    let answer =
                        unpack_one(&path, &label, tree).unwrap_or_else(|fault| Answer::Failed { fault });
                    // When the other side is gone there is nobody to tell.
                    let _ = send(&output, &answer);
                }
            });
        }
        for line in input.lines() {
            let line = line.or_fault(|| Fault::new(PROTOCOL))?;
            let request: Request = serde_json::from_str(&line).or_fault(|| Fault::new(PROTOCOL))?;
            match request {
                Request::Unpack { deb, label } => {
                    queue.send((deb, label)).or_fault(|| Fault::new(PROTOCOL))?;
                }
                other => {
                    let answer = run(other, tree).unwrap_or_else(|fault| Answer::Failed { fault });
                    send(&output, &answer)?;
                }
            }
        }
        drop(queue);
        Ok(())
    })
}

fn send(output: &Mutex<impl Write>, answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_vec(answer).or_fault(|| Fault::new(PROTOCOL))?;
    line.push(b'\n');
    let mut output = output.lock().unwrap_or_else(|e| e.into_inner());
    output
        .write_all(&line)
        .and_then(|()| output.flush())
        .or_fault(|| Fault::new(PROTOCOL))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).or_fault(|| Fault::new(unpack::READ).arg("path", path.display()))
}

fn create(path: &Path) -> Result<File> {
    File::create(path).or_fault(|| Fault::new(unpack::WRITE).arg("path", path.display()))
}

fn whole(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let fault = || Fault::new(unpack::READ).arg("path", path.display());
    open(path)?.read_to_end(&mut bytes).or_fault(fault)?;
    Ok(bytes)
}

fn unpack_one(path: &Path, label: &str, tree: &Path) -> Result<Answer> {
    let package = deb::unpack(open(path)?, &Root::open(tree)?, label)?;
    Ok(Answer::Unpacked {
        devices_skipped: package.report.devices_skipped,
        package: Box::new(package),
        label: label.to_owned(),
    })
}

fn run(request: Request, tree: &Path) -> Result<Answer> {
    match request {
        Request::Verify {
            release,
            detached,
            keyrings,
            suite,
            components,
            arch,
            clock,
        } => {
            let mut keyring = Keyring::default();
            for path in keyrings {
                let bytes = whole(&path).map_err(|fault| {
                    Fault::new(crate::KEYRING)
                        .arg("keyring", path.display())
                        .because(fault)
                })?;
                keyring.add(&bytes, &path.display().to_string())?;
            }
            let bytes = whole(&release)?;
            let text = match detached {
                None => keyring.open_inrelease(&bytes, clock.now)?,
                Some(signature) => {
                    keyring.check_detached(&bytes, &whole(&signature)?, clock.now)?;
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            verified(&text, &suite, &components, &arch, clock)
        }
        Request::Decode { from, to } => {
            let mut plain = codec::decode(BufReader::with_capacity(256 << 10, open(&from)?))?;
            let bytes = std::io::copy(&mut plain, &mut create(&to)?)
                .or_fault(|| Fault::new(MALFORMED).arg("what", from.display()))?;
            Ok(Answer::Done {
                entries: 1,
                bytes,
                devices_skipped: 0,
            })
        }
        Request::Resolve {
            indexes,
            arch,
            wanted,
        } => resolved(&indexes, &arch, &wanted),
        Request::Unpack { deb, label } => unpack_one(&deb, &label, tree),
        Request::Import { archive } => {
            let stream = codec::decode(BufReader::with_capacity(256 << 10, open(&archive)?))?;
            let Report {
                entries,
                bytes,
                devices_skipped,
                ..
            } = unpack::extract(stream, &Root::open(tree)?, Options::default())?;
            Ok(Answer::Done {
                entries,
                bytes,
                devices_skipped,
            })
        }
        Request::Pack { to } => {
            let codec = codec::Codec::of_name(&to.display().to_string());
            let sink = codec::Encoder::new(codec, BufWriter::with_capacity(256 << 10, create(&to)?))?;
            let mut writer = tar::Writer::new(sink);
            let packed = unpack::pack(&Root::open(tree)?, &PackOptions::default(), &mut writer)?;
            writer
                .finish()?
                .finish()?
                .flush()
                .or_fault(|| Fault::new(unpack::WRITE).arg("path", to.display()))?;
            Ok(Answer::Done {
                entries: packed.entries,
                bytes: packed.bytes,
                devices_skipped: 0,
            })
        }
    }
}

fn verified(text: &str, suite: &str, components: &[String], arch: &str, clock: Clock) -> Result<Answer> {
    let release = Release::parse(text)?;
    release.check(suite, clock)?;
    let mut indexes = Vec::new();
    for component in components {
        let (name, hash) = release.index(component, arch)?;
        let plain = release
            .file(&format!("{component}/binary-{arch}/Packages"))
            .cloned();
        indexes.push(Index {
            name,
            hash: hash.clone(),
            plain,
        });
    }
    Ok(Answer::Verified {
        codename: release.codename,
        by_hash: release.by_hash,
        indexes,
    })
}

fn resolved(indexes: &[(PathBuf, usize)], arch: &str, wanted: &Wanted) -> Result<Answer> {
    let mut texts = Vec::new();
    for (path, origin) in indexes {
        let text =
            String::from_utf8(whole(path)?).or_fault(|| Fault::new(MALFORMED).arg("what", path.display()))?;
        texts.push((text, *origin));
    }
    // Indexes are independent and large: each is read by a thread of its own.
    let parsed: Vec<Vec<packages::Package<'_>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = texts
            .iter()
            .map(|(text, origin)| scope.spawn(move || packages::parse(text, arch, *origin).collect()))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| Fault::new(MALFORMED).arg("what", "Packages"))
            })
            .collect::<Result<_>>()
    })?;
    let universe = Universe::new(parsed.into_iter().flatten());
    let nothing_more = Wanted {
        exclude: wanted.exclude.clone(),
        ..Wanted::default()
    };
    let essential = universe.resolve(&nothing_more)?;
    let packages = universe
        .resolve(wanted)?
        .iter()
        .map(|p| Chosen {
            name: p.name.to_owned(),
            version: p.version.to_owned(),
            architecture: p.architecture.to_owned(),
            filename: p.filename.to_owned(),
            hash: FileHash {
                size: p.size,
                sha256: p.sha256.to_ascii_lowercase(),
            },
            installed_kib: p.installed_kib,
            origin: p.origin,
            auto: !wanted.include.iter().any(|name| name == p.name)
                && !wanted.priorities.iter().any(|priority| priority == p.priority)
                && !essential.iter().any(|e| e.name == p.name),
        })
        .collect();
    let unknown = |name: &&String| universe.get(name).is_none();
    Ok(Answer::Resolved {
        packages,
        strangers: wanted.exclude.iter().filter(unknown).cloned().collect(),
    })
}
