//! A miniature archive: tiny packages, an index, a Release file signed by a key made for the test, and a server that
//! can stall, lie and die.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its ground fails"
)]

pub mod server;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use images::{BootstrapRequest, Patience, Variant};
use model::{Progress, Watcher};
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, DetachedSignature, EncryptionCaps, KeyType, SecretKeyParamsBuilder,
    SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::ser::Serialize;
use pgp::types::Password;
use sha2::{Digest, Sha256};
use unpack::tar::{Entry, Kind, Writer};

/// Now, in seconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    since.as_secs() as i64
}

pub const DAY: i64 = 86_400;

/// A signing key.
pub struct Key(SignedSecretKey);

impl Key {
    pub fn new() -> Self {
        let params = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .can_encrypt(EncryptionCaps::None)
            .primary_user_id("Archive of a test <test@example.org>".to_owned())
            .build()
            .unwrap();
        Key(params.generate(rand::thread_rng()).unwrap())
    }

    /// The keyring that holds it: binary, or in ASCII armour.
    pub fn keyring(&self, armoured: bool) -> Vec<u8> {
        let public = SignedPublicKey::from(self.0.clone());
        match armoured {
            true => public.to_armored_bytes(ArmorOptions::default()).unwrap(),
            false => public.to_bytes().unwrap(),
        }
    }

    pub fn clear_sign(&self, text: &str) -> Vec<u8> {
        let signed =
            CleartextSignedMessage::sign(rand::thread_rng(), text, &self.0.primary_key, &Password::empty())
                .unwrap();
        signed.to_armored_bytes(ArmorOptions::default()).unwrap()
    }

    pub fn detach_sign(&self, text: &str) -> Vec<u8> {
        let signature = DetachedSignature::sign_binary_data(
            rand::thread_rng(),
            &self.0.primary_key,
            &Password::empty(),
            HashAlgorithm::Sha256,
            text.as_bytes(),
        )
        .unwrap();
        signature.to_bytes().unwrap()
    }
}

/// A package of the miniature archive.
#[derive(Clone, Default)]
pub struct Deb {
    pub name: String,
    pub version: String,
    pub priority: String,
    pub depends: String,
    /// Further lines of its paragraph.
    pub fields: String,
    /// Members of control.tar beyond `control`: name, content, mode.
    pub control: Vec<(String, String, u32)>,
    /// Entries of data.tar with their content.
    pub data: Vec<(Entry, Vec<u8>)>,
}

impl Deb {
    pub fn new(name: &str) -> Self {
        Deb {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            priority: "optional".to_owned(),
            ..Deb::default()
        }
    }

    pub fn required(name: &str) -> Self {
        Deb {
            priority: "required".to_owned(),
            ..Deb::new(name)
        }
    }

    pub fn dir(mut self, path: &str) -> Self {
        self.data.push((Entry::new(path, Kind::Dir, 0o755), Vec::new()));
        self
    }

    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(Entry::new(path, Kind::File, mode), content)
    }

    pub fn entry(mut self, mut entry: Entry, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        entry.size = content.len() as u64;
        self.data.push((entry, content));
        self
    }

    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.control.push((name.to_owned(), text.to_owned(), 0o755));
        self
    }

    fn paragraph(&self) -> String {
        let depends = match self.depends.as_str() {
            "" => String::new(),
            depends => format!("Depends: {depends}\n"),
        };
        format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nPriority: {}\nMaintainer: A Test <t@example.org>\n{depends}{}Description: a test\n",
            self.name, self.version, self.priority, self.fields
        )
    }

    pub fn bytes(&self) -> Vec<u8> {
        let gz = |entries: &[(Entry, Vec<u8>)]| {
            let encoder = unpack::codec::Encoder::new(unpack::codec::Codec::Gz, Vec::new()).unwrap();
            let mut writer = Writer::new(encoder);
            for (entry, data) in entries {
                writer.entry(entry, &mut &data[..]).unwrap();
            }
            writer.finish().unwrap().finish().unwrap()
        };
        let mut control = vec![("control".to_owned(), self.paragraph(), 0o644)];
        control.extend(self.control.iter().cloned());
        let control: Vec<(Entry, Vec<u8>)> = control
            .into_iter()
            .map(|(name, text, mode)| {
                let mut entry = Entry::new(format!("./{name}"), Kind::File, mode);
                entry.size = text.len() as u64;
                (entry, text.into_bytes())
            })
            .collect();
        let (control, data) = (gz(&control), gz(&self.data));
        let mut out = Vec::new();
        unpack::ar::write(
            &mut out,
            &[
                ("debian-binary", b"2.0\n"),
                ("control.tar.gz", &control),
                ("data.tar.gz", &data),
            ],
        )
        .unwrap();
        out
    }
}

/// What a tree needs so that the stage of configuring runs: a shell of this host with its libraries, and a `dpkg` that
/// marks packages as installed.
pub fn base() -> Vec<Deb> {
    let mut shell = Deb::required("dash").dir("./usr/").dir("./usr/bin/");
    let dash = std::fs::canonicalize("/bin/dash").expect("a shell at /bin/dash");
    let ldd = Command::new("ldd").arg(&dash).output().unwrap();
    let text = String::from_utf8(ldd.stdout).unwrap();
    for word in text.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        shell = shell.file(word, 0o755, std::fs::read(word).unwrap());
    }
    shell = shell.file("./usr/bin/sh", 0o755, std::fs::read(&dash).unwrap());
    let script = "#!/bin/sh\n\
        new=\n\
        while IFS= read -r line; do\n\
          case $line in Package:*) name=${line#Package: };; esac\n\
          if [ \"$line\" = 'Status: install ok unpacked' ]; then\n\
            line='Status: install ok installed'\n\
            if [ -x \"/var/lib/dpkg/info/$name.postinst\" ]; then \"/var/lib/dpkg/info/$name.postinst\" configure || exit 1; fi\n\
            echo \"Setting up $name (1.0) ...\"\n\
          fi\n\
          new=\"$new$line\n\"\n\
        done </var/lib/dpkg/status\n\
        printf %s \"$new\" >/var/lib/dpkg/status\n";
    let dpkg = Deb::required("dpkg")
        .dir("./usr/")
        .dir("./usr/bin/")
        .file("./usr/bin/dpkg", 0o755, script);
    vec![shell, dpkg, Deb::required("apt").dir("./etc/").dir("./etc/apt/")]
}

/// A whole archive as files by path.
pub struct Archive {
    pub key: Key,
    pub files: BTreeMap<String, Vec<u8>>,
    pub date: i64,
    pub valid_until: Option<i64>,
    pub by_hash: bool,
    debs: Vec<Deb>,
}

impl Archive {
    pub fn new(debs: Vec<Deb>) -> Self {
        let mut archive = Archive {
            key: Key::new(),
            files: BTreeMap::new(),
            date: now() - DAY,
            valid_until: Some(now() + DAY),
            by_hash: true,
            debs,
        };
        archive.build();
        archive
    }

    /// Writes all files anew.
    pub fn build(&mut self) {
        self.files.clear();
        let mut packages = String::new();
        for deb in &self.debs {
            let bytes = deb.bytes();
            let path = format!("pool/{}_{}_amd64.deb", deb.name, deb.version);
            packages.push_str(&deb.paragraph());
            packages.push_str(&format!(
                "Filename: {path}\nSize: {}\nSHA256: {}\n\n",
                bytes.len(),
                sha256(&bytes)
            ));
            self.files.insert(path, bytes);
        }
        let mut encoder = unpack::codec::Encoder::new(unpack::codec::Codec::Gz, Vec::new()).unwrap();
        std::io::Write::write_all(&mut encoder, packages.as_bytes()).unwrap();
        let gz = encoder.finish().unwrap();
        let directory = "main/binary-amd64";
        let mut release = format!(
            "Origin: Test\nSuite: stable\nCodename: bookworm\nDate: {}\n",
            rfc2822(self.date)
        );
        if let Some(until) = self.valid_until {
            release.push_str(&format!("Valid-Until: {}\n", rfc2822(until)));
        }
        if self.by_hash {
            release.push_str("Acquire-By-Hash: yes\n");
        }
        release.push_str(&format!(
            "Architectures: amd64\nComponents: main\nSHA256:\n {} {} {directory}/Packages\n {} {} {directory}/Packages.gz\n",
            sha256(packages.as_bytes()),
            packages.len(),
            sha256(&gz),
            gz.len()
        ));
        let suite = "dists/bookworm";
        if self.by_hash {
            self.files.insert(
                format!("{suite}/{directory}/by-hash/SHA256/{}", sha256(&gz)),
                gz.clone(),
            );
        }
        self.files.insert(format!("{suite}/{directory}/Packages.gz"), gz);
        self.files
            .insert(format!("{suite}/InRelease"), self.key.clear_sign(&release));
        self.files
            .insert(format!("{suite}/Release.gpg"), self.key.detach_sign(&release));
        self.files
            .insert(format!("{suite}/Release"), release.into_bytes());
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A date as Release files have it.
pub fn rfc2822(seconds: i64) -> String {
    let iso = archive::time::rfc3339(seconds);
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ][iso[5..7].parse::<usize>().unwrap() - 1];
    format!("Thu, {} {month} {} {} UTC", &iso[8..10], &iso[0..4], &iso[11..19])
}

/// Ground of one test: a folder with keyring, cache and target.
pub struct Ground {
    pub dir: tempfile::TempDir,
    pub request: BootstrapRequest,
}

impl Ground {
    pub fn new(mirror: &str, keyring: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("keyring.gpg"), keyring).unwrap();
        // Whoever works in the jail reads the keyring below this folder.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let request = BootstrapRequest {
            image: "debian/bookworm".parse().unwrap(),
            target: path("tree"),
            arch: Some("amd64".to_owned()),
            variant: Variant::Minbase,
            include: Vec::new(),
            exclude: Vec::new(),
            components: Vec::new(),
            mirror: Some(mirror.to_owned()),
            keyring: Some(path("keyring.gpg")),
            cache_dir: path("cache"),
            worker_exe: bin().join("posada-worker"),
            shim_exe: bin().join("posada-shim"),
            ids: jail::recipe::IdRange {
                base: 1_100_000_000,
                count: 65_536,
            },
            patience: Patience {
                connect: Duration::from_secs(3),
                stall: Duration::from_secs(1),
                tries: 3,
            },
            now: Some(now()),
        };
        Ground { dir, request }
    }

    pub fn run(&self) -> fault::Result<images::Summary> {
        images::bootstrap(&self.request, &Watching::default())
    }

    pub fn tree(&self) -> &Path {
        &self.request.target
    }

    /// Runs, expects a fault of this code, and that nothing is left but the cache.
    pub fn fails_with(&self, code: fault::Code) -> fault::Fault {
        let fault = self.run().expect_err("a fault");
        assert!(fault.is(code), "{fault}");
        self.nothing_left();
        fault
    }

    /// Nothing but keyring and cache is there, and in the cache no scratch directory.
    pub fn nothing_left(&self) {
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["cache", "keyring.gpg"]);
        let scratch = std::fs::read_dir(self.dir.path().join("cache/tmp"))
            .unwrap()
            .count();
        assert_eq!(scratch, 0);
    }
}

/// The folder of the small executables, as the tests of the house build them.
pub fn bin() -> PathBuf {
    let bin = match std::env::var_os("POSADA_BIN") {
        Some(bin) => PathBuf::from(bin),
        None => {
            let own = std::env::current_exe().unwrap();
            own.ancestors().nth(2).unwrap().to_owned()
        }
    };
    for name in ["posada-worker", "posada-shim"] {
        assert!(bin.join(name).exists(), "{name} is missing: cargo xtask build");
    }
    bin
}

/// A watcher that can be told to cancel when a number of bytes has arrived.
#[derive(Default)]
pub struct Watching {
    pub cancel_at: Option<u64>,
    pub cancelled: AtomicBool,
    pub steps: Mutex<Vec<Progress>>,
}

impl Watcher for Watching {
    fn progress(&self, progress: Progress) {
        if self
            .cancel_at
            .is_some_and(|at| progress.step == "step-fetch" && progress.done >= at)
        {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        self.steps.lock().unwrap().push(progress);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Whether any file below a directory holds these bytes.
pub fn occurs(directory: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            let has = |hay: &[u8]| hay.windows(bytes.len()).any(|w| w == bytes);
            has(entry.file_name().as_bytes())
                || (kind.is_dir() && occurs(&path, bytes))
                || (kind.is_file() && has(&std::fs::read(&path).unwrap_or_default()))
        })
}
