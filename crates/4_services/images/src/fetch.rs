//! Downloads: several at a time, checked while they arrive, resumed where they broke off.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use archive::release::FileHash;
use fault::{Fault, OrFault, Result};
use model::{Progress, Watcher};
use reqwest::{Client, StatusCode, Url, header};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::codes;
use crate::host::{Host, Login};

/// Downloads at a time.
const PARALLEL: usize = 6;
/// How often the caller looks whether the work was cancelled.
const TICK: Duration = Duration::from_millis(100);

/// How long a server may keep silent, and how often it is asked again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection to be made.
    pub connect: Duration,
    /// Without a byte.
    pub stall: Duration,
    /// Attempts in all; what has arrived is kept between them.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            tries: 4,
        }
    }
}

/// One file to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    /// Addresses that may have it, tried in order when one says "not found".
    pub(crate) urls: Vec<String>,
    /// What it must be; absent for files that carry their own signature.
    pub(crate) hash: Option<FileHash>,
    /// Where it is kept.
    pub(crate) to: PathBuf,
    /// What people call it.
    pub(crate) label: String,
}

/// Fetches files over HTTP.
pub(crate) struct Fetcher {
    runtime: tokio::runtime::Runtime,
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    logins: Vec<Login>,
    patience: Patience,
    /// Bytes that came over the network.
    fetched: AtomicU64,
    limit: Semaphore,
}

/// The end of one attempt.
enum Broken {
    /// Worth another attempt.
    Retry(Fault),
    /// Not here; another address may have it.
    NotFound(Fault),
    /// Not worth one.
    Final(Fault),
}

impl Fetcher {
    /// A fetcher that goes through the host's proxies.
    pub(crate) fn new(host: &Host, patience: Patience) -> Result<Self> {
        let proxies = host.clone();
        let proxy = reqwest::Proxy::custom(move |url| proxies.proxy(url.scheme(), url.host_str()?));
        let client = Client::builder()
            .user_agent(concat!("posada/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            .read_timeout(patience.stall)
            .pool_max_idle_per_host(PARALLEL)
            .proxy(proxy)
            .build()
            .or_fault(|| Fault::new(codes::NETWORK))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fetch")
            .enable_all()
            .build()
            .or_fault(|| Fault::new(codes::NETWORK))?;
        let shared = Arc::new(Shared {
            client,
            logins: host.logins.clone(),
            patience,
            fetched: AtomicU64::new(0),
            limit: Semaphore::new(PARALLEL),
        });
        Ok(Fetcher { runtime, shared })
    }

    /// Bytes that came over the network up to now.
    pub(crate) fn fetched(&self) -> u64 {
        self.shared.fetched.load(Ordering::Relaxed)
    }

    /// Fetches all files that are not there yet. `done` is called on this thread with the index of each file
    /// when it is there and right, in any order. Ends at the first fault; what has arrived is kept.
    pub(crate) fn fetch(
        &self,
        downloads: &[Download],
        watcher: &dyn Watcher,
        step: &str,
        done: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let total: u64 = downloads
            .iter()
            .filter_map(|d| d.hash.as_ref())
            .map(|h| h.size)
            .sum();
        let arrived = Arc::new(AtomicU64::new(0));
        let (tell, told) = mpsc::channel();
        let tasks: Vec<_> = downloads
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, download)| {
                let (shared, tell, arrived) = (self.shared.clone(), tell.clone(), arrived.clone());
                self.runtime.spawn(async move {
                    let result = shared.get(&download, &arrived).await;
                    // The receiver is gone when another file has failed.
                    let _ = tell.send((index, result));
                })
            })
            .collect();
        drop(tell);
        let ended = (|| {
            let mut left = downloads.len();
            while left > 0 {
                if watcher.is_cancelled() {
                    return Err(Fault::new(model::CANCELLED));
                }
                let detail = match told.recv_timeout(TICK) {
                    Ok((index, result)) => {
                        result?;
                        done(index)?;
                        left -= 1;
                        downloads[index].label.clone()
                    }
                    Err(RecvTimeoutError::Timeout) => String::new(),
                    Err(RecvTimeoutError::Disconnected) => return Err(Fault::new(codes::NETWORK)),
                };
                watcher.progress(Progress {
                    step: step.to_owned(),
                    done: arrived.load(Ordering::Relaxed).min(total),
                    total,
                    unit: "bytes".to_owned(),
                    detail,
                });
            }
            Ok(())
        })();
        for task in &tasks {
            task.abort();
        }
        // Tasks hold locks of partial files until they have really ended.
        self.runtime.block_on(async {
            for task in tasks {
                let _ = task.await;
            }
        });
        ended
    }
}

impl Shared {
    async fn get(&self, download: &Download, arrived: &AtomicU64) -> Result<()> {
        let _permit = self
            .limit
            .acquire()
            .await
            .or_fault(|| Fault::new(codes::NETWORK))?;
        if let Some(hash) = &download.hash {
            let (path, wanted) = (download.to.clone(), hash.clone());
            let there = tokio::task::spawn_blocking(move || is_right(&path, &wanted)).await;
            if there.unwrap_or(false) {
                arrived.fetch_add(hash.size, Ordering::Relaxed);
                return Ok(());
            }
        }
        let mut fault = None;
        for url in &download.urls {
            match self.from(url, download, arrived).await {
                Ok(()) => return Ok(()),
                Err(Broken::NotFound(not_found)) => {
                    fault.get_or_insert(not_found);
                }
                Err(Broken::Retry(other) | Broken::Final(other)) => return Err(other),
            }
        }
        Err(fault.unwrap_or_else(|| Fault::new(codes::NETWORK)))
    }

    async fn from(&self, url: &str, download: &Download, arrived: &AtomicU64) -> Result<(), Broken> {
        let mut wait = Duration::from_millis(300);
        let mut left = self.patience.tries.max(1);
        loop {
            left -= 1;
            match self.attempt(url, download, arrived).await {
                Err(Broken::Retry(_)) if left > 0 => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                ended => return ended,
            }
        }
    }

    /// One request: the file, or what of it is still missing.
    async fn attempt(&self, url: &str, download: &Download, arrived: &AtomicU64) -> Result<(), Broken> {
        let mut partial = Partial::open(&download.to).await.map_err(Broken::Final)?;
        if let Some(hash) = &download.hash {
            if is_right(&download.to, hash) {
                arrived.fetch_add(hash.size, Ordering::Relaxed);
                return Ok(());
            }
            if partial.length > hash.size {
                partial.restart().await.map_err(Broken::Final)?;
            }
        } else {
            partial.restart().await.map_err(Broken::Final)?;
        }
        let counted = partial.length;
        arrived.fetch_add(counted, Ordering::Relaxed);
        let result = self.transfer(url, download, arrived, &mut partial).await;
        if result.is_err() {
            arrived.fetch_sub(partial.length, Ordering::Relaxed);
        }
        result
    }

    async fn transfer(
        &self,
        url: &str,
        download: &Download,
        arrived: &AtomicU64,
        partial: &mut Partial,
    ) -> Result<(), Broken> {
        let complete = download
            .hash
            .as_ref()
            .is_some_and(|hash| partial.length == hash.size);
        if !complete {
            let mut response = self.ask(url, partial.length).await?;
            if partial.length > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
                arrived.fetch_sub(partial.length, Ordering::Relaxed);
                partial.restart().await.map_err(Broken::Final)?;
            }
            loop {
                let chunk = response.chunk().await.map_err(|e| Broken::Retry(told(url, &e)))?;
                let Some(chunk) = chunk else { break };
                if let Some(hash) = &download.hash
                    && partial.length + chunk.len() as u64 > hash.size
                {
                    partial.restart().await.map_err(Broken::Final)?;
                    return Err(Broken::Final(mismatch(download, url).because_of("it is longer")));
                }
                partial.write(&chunk).await.map_err(Broken::Final)?;
                arrived.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                self.fetched.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }
        if let Some(hash) = &download.hash {
            if partial.length < hash.size {
                // The connection ended as if the file did: what there is can be gone on with.
                return Err(Broken::Retry(mismatch(download, url).because_of("it is shorter")));
            }
            if hex(&partial.hasher.clone().finalize()) != hash.sha256 {
                partial.restart().await.map_err(Broken::Final)?;
                return Err(Broken::Retry(
                    mismatch(download, url).because_of("its SHA-256 differs"),
                ));
            }
        }
        partial.keep(&download.to).await.map_err(Broken::Final)
    }

    async fn ask(&self, url: &str, from: u64) -> Result<reqwest::Response, Broken> {
        let address = Url::parse(url)
            .map_err(|e| Broken::Final(Fault::new(codes::NETWORK).arg("url", shown(url)).because(e)))?;
        let mut request = self.client.get(address.clone());
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if address.username().is_empty()
            && let Some(login) = self.logins.iter().find(|l| l.is_for(&address))
        {
            request = request.basic_auth(&login.user, Some(&login.password));
        }
        let response = request.send().await.map_err(|e| Broken::Retry(told(url, &e)))?;
        let status = response.status();
        let refused = || {
            Fault::new(codes::HTTP)
                .arg("url", shown(url))
                .arg("status", status)
        };
        match status {
            _ if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Broken::NotFound(refused())),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(Broken::Final(
                Fault::new(codes::PROXY_LOGIN).arg("url", shown(url)),
            )),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Broken::Retry(refused()))
            }
            _ => Err(Broken::Final(refused())),
        }
    }
}

impl Login {
    fn is_for(&self, url: &Url) -> bool {
        let machine = self
            .machine
            .split_once("://")
            .map_or(self.machine.as_str(), |(_, rest)| rest);
        let (authority, path) = machine.find('/').map_or((machine, ""), |at| machine.split_at(at));
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
        (authority == host || Some(authority) == with_port.as_deref()) && url.path().starts_with(path)
    }
}

/// An address as it may be shown: without a login.
fn shown(url: &str) -> String {
    crate::suites::without_login(url)
}

fn mismatch(download: &Download, url: &str) -> Fault {
    Fault::new(archive::MISMATCH)
        .arg("file", &download.label)
        .arg("url", shown(url))
}

/// What went wrong on the way, by kind.
fn told(url: &str, error: &reqwest::Error) -> Fault {
    let code = if error.is_timeout() {
        codes::STALLED
    } else {
        codes::NETWORK
    };
    let mut fault = Fault::new(code).arg("url", shown(url));
    // The outermost error repeats the address, with its login.
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        fault = fault.because_of(cause.to_string());
        source = cause.source();
    }
    if fault
        .causes()
        .iter()
        .any(|cause| cause.contains("proxy auth") || cause.contains("407"))
    {
        return Fault::new(codes::PROXY_LOGIN).arg("url", shown(url));
    }
    fault
}

/// A file that is arriving: locked, so that two processes do not write it at once.
struct Partial {
    path: PathBuf,
    file: tokio::fs::File,
    hasher: Sha256,
    length: u64,
}

impl Partial {
    /// Opens the partial file beside `to`, waits for whoever else writes it, and reads what is there.
    async fn open(to: &Path) -> Result<Self> {
        let mut path = to.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let fault = || Fault::new(codes::IO).arg("path", path.display());
        loop {
            let open = || {
                std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)
            };
            let mut file = open().or_fault(fault)?;
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                tokio::time::sleep(TICK).await;
                continue;
            }
            // Whoever held the lock may have renamed or removed the file.
            let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| {
                use std::os::unix::fs::MetadataExt;
                (a.dev(), a.ino()) == (b.dev(), b.ino())
            };
            match (file.metadata(), std::fs::metadata(&path)) {
                (Ok(a), Ok(b)) if same(&a, &b) => {}
                _ => continue,
            }
            let mut hasher = Sha256::new();
            let length = hash_into(&mut file, &mut hasher).or_fault(fault)?;
            return Ok(Partial {
                path,
                file: tokio::fs::File::from_std(file),
                hasher,
                length,
            });
        }
    }

    async fn restart(&mut self) -> Result<()> {
        use tokio::io::AsyncSeekExt;
        self.file.set_len(0).await.or_fault(|| self.fault())?;
        self.file.rewind().await.or_fault(|| self.fault())?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    async fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.file.write_all(chunk).await.or_fault(|| self.fault())?;
        self.hasher.update(chunk);
        self.length += chunk.len() as u64;
        Ok(())
    }

    async fn keep(&mut self, to: &Path) -> Result<()> {
        self.file.flush().await.or_fault(|| self.fault())?;
        tokio::fs::rename(&self.path, to).await.or_fault(|| self.fault())
    }

    fn fault(&self) -> Fault {
        Fault::new(codes::IO).arg("path", self.path.display())
    }
}

fn hash_into(file: &mut impl Read, hasher: &mut Sha256) -> std::io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            n => {
                hasher.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
}

/// Whether a file is there with this length and hash.
pub(crate) fn is_right(path: &Path, hash: &FileHash) -> bool {
    let Ok(mut file) = std::fs::File::open(path) else {
        return false;
    };
    let mut hasher = Sha256::new();
    file.metadata().is_ok_and(|m| m.len() == hash.size)
        && hash_into(&mut file, &mut hasher).is_ok()
        && hex(&hasher.finalize()) == hash.sha256
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
