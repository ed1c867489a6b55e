//! The images kept on this host, by digest.
//!
//! ```text
//! images/<digest>/image.json    what is known of it
//! images/<digest>/root          its tree, with unshifted ids, or
//! images/<digest>/disk          its disk, raw or qcow2
//! images/tmp/…                  images that are being made
//! images/locks/…                one lock for every image that somebody makes or waits for
//! ```
//!
//! An image appears by one rename and never changes afterwards but for the references in its `image.json`.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use archive::job::{Answer, Request};
use archive::time::rfc3339;
use fault::{Fault, OrFault, Result};
use jail::recipe::IdRange;
use model::{ImageRef, ImageSpec, Progress, Watcher};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Variant, architecture};
use crate::codes;
use crate::confine::{Reach, Tools};
use crate::disk_file::{self, Shape};
use crate::fetch::{Patience, hex};
use crate::make::{Plan, make};
use crate::releases::{SYSTEM, codename};
use crate::suites::Wish;
use crate::tree::{self, At, Scratch};
use crate::worker::{Worker, unexpected};

/// Where images live and what makes them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// State of the daemon; images are kept in `images` below it.
    pub state_dir: PathBuf,
    /// Where downloads are kept.
    pub cache_dir: PathBuf,
    /// The executable `posada-worker`.
    pub worker_exe: PathBuf,
    /// The executable `posada-shim`.
    pub shim_exe: PathBuf,
    /// Host ids for the namespaces in which archives are unpacked and packages configured.
    pub ids: IdRange,
}

/// An image on this host.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// Its digest, architecture and references.
    pub spec: ImageSpec,
    /// Root trees with unshifted ids, topmost first.
    pub layers: Vec<PathBuf>,
    /// Bytes of its files.
    pub size: u64,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Whether it has an init at `/sbin/init`, and so can boot as a system container.
    pub has_init: bool,
    /// The disk of an image that is no tree; it has no layers then.
    pub disk: Option<StoredDisk>,
}

/// The disk of an image. It is never written: [`crate::machine::copy_disk`] gives a guest its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDisk {
    /// Its file.
    pub path: PathBuf,
    /// Its format.
    pub format: disk::Format,
    /// Bytes of the disk as a machine sees it.
    pub size: u64,
}

/// `image.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    /// Version of this format.
    version: u32,
    spec: ImageSpec,
    /// By what the image was made: of two calls with the same recipe the second finds the image of the first.
    recipes: Vec<String>,
    size: u64,
    created: String,
    has_init: bool,
    /// Of an image that is a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<Shape>,
}

/// What has been made in a scratch directory, and is to be kept.
struct Made {
    /// Name of the tree or disk in the directories of images.
    name: &'static str,
    /// Of its content, hexadecimal.
    digest: String,
    size: u64,
    has_init: bool,
    disk: Option<Shape>,
}

/// The images of one state directory.
#[derive(Debug)]
pub struct Images {
    settings: Settings,
    directory: PathBuf,
}

impl Images {
    /// Opens the images of a state directory and sweeps away interrupted work.
    ///
    /// # Errors
    /// [`codes::IO`] when the directory cannot be made or read.
    pub fn open(settings: Settings) -> Result<Self> {
        let directory = settings.state_dir.join("images");
        fs::create_dir_all(directory.join("locks")).at(&directory)?;
        // A scratch directory sweeps what dead processes have left beside it.
        Scratch::new(&directory)?;
        Ok(Images { settings, directory })
    }

    /// The root tree of this reference, made when it is not here yet. Two calls for the same image do the work once.
    ///
    /// # Errors
    /// [`codes::UNKNOWN`], [`codes::IS_DISK`], and all that [`crate::bootstrap`] can raise.
    pub fn ensure(&self, image: &ImageRef, include: &[String], watcher: &dyn Watcher) -> Result<StoredImage> {
        let found = self.ensure_any(image, include, watcher)?;
        match found.disk {
            Some(_) => Err(Fault::new(codes::IS_DISK).arg("image", image)),
            None => Ok(found),
        }
    }

    /// As [`Images::ensure`]; the image may also be a disk.
    ///
    /// # Errors
    /// [`codes::UNKNOWN`], [`codes::IS_CDROM`], what [`disk::detect`] refuses, and all that [`crate::bootstrap`] can raise.
    pub fn ensure_any(
        &self,
        image: &ImageRef,
        include: &[String],
        watcher: &dyn Watcher,
    ) -> Result<StoredImage> {
        if let ImageRef::Digest(_) | ImageRef::Nothing = image {
            return self
                .find(image, include)?
                .ok_or_else(|| Fault::new(codes::UNKNOWN).arg("image", image));
        }
        let recipe = recipe(image, include)?;
        if let Some(found) = self.by_recipe(&recipe)? {
            return self.refer(found, image);
        }
        let _lock = self.lock(&recipe, watcher)?;
        // Whoever held the lock may have made it.
        if let Some(found) = self.by_recipe(&recipe)? {
            return self.refer(found, image);
        }
        let scratch = Scratch::new(&self.directory)?;
        if let ImageRef::Path(path) = image
            && Path::new(path).is_file()
            && let Some(shape) = disk_file::recognise(Path::new(path))?
        {
            let made = import_disk(&scratch, Path::new(path), shape, watcher)?;
            return self.keep(scratch, made, image, include, recipe);
        }
        let root = scratch.path().join("root");
        fs::create_dir(&root).at(&root)?;
        match image {
            ImageRef::Release { .. } => self.release(&root, image, include, watcher)?,
            ImageRef::Path(path) => self.import(&root, Path::new(path), watcher)?,
            ImageRef::Digest(_) | ImageRef::Nothing => {}
        }
        tell(watcher, "step-digest", "");
        let made = Made {
            name: "root",
            digest: tree::digest(&root)?,
            size: tree::size(&root)?,
            has_init: has_init(&root),
            disk: None,
        };
        self.keep(scratch, made, image, include, recipe)
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// [`codes::IO`].
    pub fn list(&self) -> Result<Vec<StoredImage>> {
        let mut found: Vec<StoredImage> = self
            .records()?
            .into_iter()
            .map(|(directory, record)| stored(&directory, record))
            .collect();
        found.sort_by(|a, b| b.created.cmp(&a.created));
        Ok(found)
    }

    /// The newest image of this reference, when it is here.
    ///
    /// # Errors
    /// [`codes::IO`].
    pub fn find(&self, image: &ImageRef, include: &[String]) -> Result<Option<StoredImage>> {
        if let ImageRef::Digest(beginning) = image {
            let mut found: Vec<StoredImage> = self.list()?;
            found.retain(|stored| stored.spec.digest["sha256:".len()..].starts_with(beginning.as_str()));
            // An ambiguous beginning names nothing.
            return Ok(if found.len() == 1 { found.pop() } else { None });
        }
        let Ok(recipe) = recipe(image, include) else {
            return Ok(None);
        };
        let found = self.by_recipe(&recipe)?;
        Ok(found.map(|(directory, record)| stored(&directory, record)))
    }

    /// Removes an image with its files.
    ///
    /// # Errors
    /// [`codes::UNKNOWN`], [`codes::IO`].
    pub fn remove(&self, digest: &str) -> Result<()> {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let unknown = || Fault::new(codes::UNKNOWN).arg("image", digest);
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let path = self.directory.join(hex);
        if !path.exists() {
            return Err(unknown());
        }
        // It is gone at once; its files go where a crash cannot bring it back.
        let scratch = Scratch::new(&self.directory)?;
        fs::rename(&path, scratch.path().join("image")).at(&path)
    }

    /// Removes all images whose digest is not to be kept; returns the digests removed.
    ///
    /// # Errors
    /// [`codes::IO`].
    pub fn prune(&self, keep: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for image in self.list()? {
            if !keep(&image.spec.digest) {
                self.remove(&image.spec.digest)?;
                removed.push(image.spec.digest);
            }
        }
        Ok(removed)
    }

    fn release(
        &self,
        root: &Path,
        image: &ImageRef,
        include: &[String],
        watcher: &dyn Watcher,
    ) -> Result<()> {
        let settings = &self.settings;
        let mut packages: Vec<String> = SYSTEM.iter().map(|name| (*name).to_owned()).collect();
        packages.extend(include.iter().cloned());
        let plan = Plan {
            codename: codename(image)?,
            arch: architecture(None)?,
            variant: Variant::Minbase,
            include: packages,
            exclude: Vec::new(),
            wish: Wish::default(),
            cache_dir: &settings.cache_dir,
            tools: self.tools(),
            patience: Patience::default(),
            now: None,
            package_lists: true,
        };
        make(root, &plan, watcher).map(|_| ())
    }

    fn tools(&self) -> Tools<'_> {
        let settings = &self.settings;
        Tools {
            worker_exe: &settings.worker_exe,
            shim_exe: &settings.shim_exe,
            ids: settings.ids,
        }
    }

    /// Unpacks an archive, or copies a directory as an archive would carry it.
    fn import(&self, root: &Path, source: &Path, watcher: &dyn Watcher) -> Result<()> {
        tell(watcher, "step-import", &source.display().to_string());
        let missing = |_| Fault::new(codes::NO_SUCH_FILE).arg("path", source.display());
        let source = fs::canonicalize(source).map_err(missing)?;
        // Seen before a large directory of something else is copied.
        let is_tree = |root: &Path| {
            ["usr", "bin"]
                .iter()
                .any(|name| fs::symlink_metadata(root.join(name)).is_ok())
        };
        let no_tree = || Fault::new(codes::NO_ROOT_TREE).arg("path", source.display());
        if source.is_dir() {
            if !is_tree(&source) {
                return Err(no_tree());
            }
            copy(&source, root)?;
        } else {
            let reach = Reach {
                tree: Some(root.to_owned()),
                read: vec![source.clone()],
                write: Vec::new(),
            };
            let mut worker = Worker::start(self.tools(), &root.with_file_name("bench"), &reach)?;
            match worker.ask(
                &Request::Import {
                    archive: source.clone(),
                },
                watcher,
            )? {
                Answer::Done { .. } => {}
                _ => return Err(unexpected()),
            }
        }
        if is_tree(root) { Ok(()) } else { Err(no_tree()) }
    }

    /// Gives a finished tree or disk its name.
    fn keep(
        &self,
        scratch: Scratch,
        made: Made,
        image: &ImageRef,
        include: &[String],
        recipe: String,
    ) -> Result<StoredImage> {
        let digest = made.digest;
        let target = self.directory.join(&digest);
        if let Some(mut record) = read(&target) {
            // The same content by another way: it answers to both from now on.
            record.recipes.push(recipe);
            write(&target, &record)?;
            return self.refer((target, record), image);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = Record {
            version: 1,
            spec: ImageSpec {
                references: references(image),
                digest: format!("sha256:{digest}"),
                architecture: architecture(None)?,
                include: include.to_vec(),
            },
            recipes: vec![recipe],
            size: made.size,
            created: rfc3339(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            has_init: made.has_init,
            disk: made.disk,
        };
        let new = scratch.path().join("image");
        fs::create_dir(&new).at(&new)?;
        fs::rename(scratch.path().join(made.name), new.join(made.name)).at(&new)?;
        write(&new, &record)?;
        fs::rename(&new, &target).at(&target)?;
        self.forget_older(image, include, &digest)?;
        Ok(stored(&target, record))
    }

    /// Takes a reference away from images that an image made just now replaces.
    fn forget_older(&self, image: &ImageRef, include: &[String], digest: &str) -> Result<()> {
        let names = references(image);
        for (directory, mut record) in self.records()? {
            let older = !record.spec.digest.ends_with(digest) && record.spec.include == include;
            let before = record.spec.references.len();
            record.spec.references.retain(|r| !older || !names.contains(r));
            if record.spec.references.len() != before {
                write(&directory, &record)?;
            }
        }
        Ok(())
    }

    /// Notes that an image is known by this reference too.
    fn refer(&self, (directory, mut record): (PathBuf, Record), image: &ImageRef) -> Result<StoredImage> {
        let before = record.spec.references.len();
        for name in references(image) {
            if !record.spec.references.contains(&name) {
                record.spec.references.push(name);
            }
        }
        if record.spec.references.len() != before {
            write(&directory, &record)?;
        }
        Ok(stored(&directory, record))
    }

    /// The newest image made by this recipe.
    fn by_recipe(&self, recipe: &str) -> Result<Option<(PathBuf, Record)>> {
        let mut found: Vec<(PathBuf, Record)> = self.records()?;
        found.retain(|(_, record)| record.recipes.iter().any(|r| r == recipe));
        Ok(found.into_iter().max_by(|a, b| a.1.created.cmp(&b.1.created)))
    }

    fn records(&self) -> Result<Vec<(PathBuf, Record)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).at(&self.directory)?.flatten() {
            let path = entry.path();
            if let Some(record) = read(&path) {
                found.push((path, record));
            }
        }
        Ok(found)
    }

    /// Waits until nobody else makes the image of this recipe.
    fn lock(&self, recipe: &str, watcher: &dyn Watcher) -> Result<File> {
        use sha2::{Digest, Sha256};
        let name = hex(&Sha256::digest(recipe));
        lock_file(&self.directory.join("locks").join(&name[..32]), watcher)
    }
}

/// What decides about an image: what `debian/12` and `debian/bookworm` have in common; of a file its identity and
/// time, so that a changed file is a new image.
fn recipe(image: &ImageRef, include: &[String]) -> Result<String> {
    let mut include = include.to_vec();
    include.sort();
    include.dedup();
    Ok(match image {
        ImageRef::Release { .. } => format!(
            "debian/{} {} +{}",
            codename(image)?,
            architecture(None)?,
            include.join(",")
        ),
        ImageRef::Path(path) => {
            let missing = |_| Fault::new(codes::NO_SUCH_FILE).arg("path", path);
            let path = fs::canonicalize(path).map_err(missing)?;
            let m = fs::metadata(&path).at(&path)?;
            if m.is_dir() {
                // A tree can change without any sign on its top directory: its content decides.
                format!("dir {} {}", path.display(), tree::digest(&path)?)
            } else {
                format!(
                    "file {} {} {} {} {}",
                    path.display(),
                    m.ino(),
                    m.len(),
                    m.mtime(),
                    m.mtime_nsec()
                )
            }
        }
        ImageRef::Digest(hex) => format!("digest {hex}"),
        ImageRef::Nothing => return Err(Fault::new(codes::UNKNOWN).arg("image", image)),
    })
}

/// All that people may call it: a release by number and by name.
fn references(image: &ImageRef) -> Vec<ImageRef> {
    let mut found = vec![image.clone()];
    if let ImageRef::Release { distribution, .. } = image
        && let Ok(release) = codename(image)
    {
        let by_name = ImageRef::Release {
            distribution: distribution.clone(),
            release,
        };
        if !found.contains(&by_name) {
            found.push(by_name);
        }
    }
    found
}

/// Whether `/sbin/init` is there, followed inside the tree only.
fn has_init(root: &Path) -> bool {
    unpack::Root::open(root).is_ok_and(|root| root.lookup(c"sbin/init", rustix::fs::OFlags::PATH).is_ok())
}

/// Copies a disk file into the scratch directory.
fn import_disk(scratch: &Scratch, source: &Path, shape: Shape, watcher: &dyn Watcher) -> Result<Made> {
    tell(watcher, "step-import", &source.display().to_string());
    let from = File::open(source).at(source)?;
    let path = scratch.path().join("disk");
    let to = File::create_new(&path).at(&path)?;
    to.set_permissions(fs::Permissions::from_mode(0o600)).at(&path)?;
    disk_file::copy(&from, &to, &path, watcher)?;
    to.sync_all().at(&path)?;
    let to = File::open(&path).at(&path)?;
    Ok(Made {
        name: "disk",
        digest: disk_file::digest(&to, shape, &path, watcher)?,
        size: to.metadata().at(&path)?.blocks() * 512,
        has_init: false,
        disk: Some(shape),
    })
}

fn tell(watcher: &dyn Watcher, step: &str, detail: &str) {
    watcher.progress(Progress {
        step: step.to_owned(),
        detail: detail.to_owned(),
        ..Progress::default()
    });
}

fn stored(directory: &Path, record: Record) -> StoredImage {
    let disk = record.disk.map(|shape| StoredDisk {
        path: directory.join("disk"),
        format: shape.format,
        size: shape.size,
    });
    StoredImage {
        spec: record.spec,
        layers: match disk {
            Some(_) => Vec::new(),
            None => vec![directory.join("root")],
        },
        disk,
        size: record.size,
        created: record.created,
        has_init: record.has_init,
    }
}

fn read(directory: &Path) -> Option<Record> {
    let text = fs::read(directory.join("image.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

fn write(directory: &Path, record: &Record) -> Result<()> {
    let path = directory.join("image.json");
    let new = directory.join("image.json.new");
    let text =
        serde_json::to_vec_pretty(record).or_fault(|| Fault::new(codes::IO).arg("path", path.display()))?;
    fs::write(&new, text).at(&new)?;
    fs::rename(&new, &path).at(&path)
}

/// Copies a tree as a tar archive would carry it: one thread packs, this one unpacks. Both sides are trees of this
/// host's administrator.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let options = unpack::PackOptions {
        one_file_system: true,
        ..unpack::PackOptions::default()
    };
    let (reader, writer) = std::io::pipe().or_fault(|| Fault::new(codes::IO).arg("path", to.display()))?;
    let source = unpack::Root::open(from)?;
    let target = unpack::Root::open(to)?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut writer = unpack::tar::Writer::new(std::io::BufWriter::with_capacity(256 << 10, writer));
            unpack::pack(&source, &options, &mut writer)?;
            writer.finish().map(|_| ())
        });
        let unpacked = unpack::extract(
            std::io::BufReader::with_capacity(256 << 10, reader),
            &target,
            unpack::Options::default(),
        );
        let packed = packing
            .join()
            .unwrap_or_else(|_| Err(Fault::new(codes::IO).arg("path", from.display())));
        // A packer that fails cuts the archive short: its fault is the cause of the other.
        packed.and(unpacked.map(|_| ()))
    })
}
/// Holds a file, made when missing, for itself once nobody else does.
pub(crate) fn lock_file(path: &Path, watcher: &dyn Watcher) -> Result<File> {
    let file = File::create(path).at(path)?;
    let mut told = false;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(tree::io_fault(path, &error.into())),
        }
        if watcher.is_cancelled() {
            return Err(Fault::new(model::CANCELLED));
        }
        if !std::mem::replace(&mut told, true) {
            watcher.progress(Progress {
                step: "step-wait".to_owned(),
                ..Progress::default()
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
