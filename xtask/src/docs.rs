//! `cargo xtask docs [--check]`: the generated reference – man pages and the OpenAPI document – into docs/reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, root, testhost};

/// Generates the reference; with `--check`, only tells whether the committed one is in step.
pub fn run(args: &[String]) -> Result<()> {
    let check = args.iter().any(|arg| arg == "--check");
    let committed = root().join("docs/reference");
    let fresh = std::env::temp_dir().join(format!("posada-reference-{}", std::process::id()));
    std::fs::create_dir_all(fresh.join("man")).with_context(|| fresh.display().to_string())?;
    let made = generate(&fresh).and_then(|()| read(&fresh, &fresh));
    let _ = std::fs::remove_dir_all(&fresh);
    let (made, there) = (made?, read(&committed, &committed)?);
    if !check {
        for old in there.keys().filter(|path| !made.contains_key(*path)) {
            std::fs::remove_file(committed.join(old))?;
        }
        for (path, bytes) in &made {
            let place = committed.join(path);
            std::fs::create_dir_all(place.parent().unwrap_or(&committed))?;
            std::fs::write(&place, bytes).with_context(|| place.display().to_string())?;
        }
        println!("{} files in docs/reference", made.len());
        return Ok(());
    }
    let differs = made
        .keys()
        .chain(there.keys())
        .filter(|path| made.get(*path) != there.get(*path));
    let mut differs: Vec<String> = differs.map(|path| path.display().to_string()).collect();
    differs.sort();
    differs.dedup();
    if !differs.is_empty() {
        bail!(
            "docs/reference is out of step: {}; `cargo xtask docs` mends it",
            differs.join(", ")
        );
    }
    println!("docs/reference: in step");
    Ok(())
}

fn generate(folder: &Path) -> Result<()> {
    let posada = build::assemble(build::Kind::Dev)?.join("posada");
    let status = Command::new(&posada)
        .env("LC_ALL", "C.UTF-8")
        .arg("man")
        .arg(folder.join("man"))
        .status();
    let status = status.context("posada man")?;
    if !status.success() {
        bail!("posada man ended with {status}");
    }
    let script = format!(
        "{} ls --quiet 2>/dev/null >&2 && curl -fsS --unix-socket /run/posada/api.sock http://posada/v1/openapi.json >{}",
        posada.display(),
        folder.join("openapi.raw").display()
    );
    testhost::run(&["sh", "-c", &script].map(String::from), &[])?;
    let raw = std::fs::read_to_string(folder.join("openapi.raw"))?;
    std::fs::remove_file(folder.join("openapi.raw"))?;
    let document: serde_json::Value = serde_json::from_str(&raw).context("the OpenAPI document")?;
    std::fs::write(
        folder.join("openapi.json"),
        serde_json::to_string_pretty(&document)? + "\n",
    )?;
    Ok(())
}

/// Files below a folder, by their path in it; the hand-written README is left out.
fn read(top: &Path, folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(files);
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(read(top, &path)?);
        } else if path.file_name().is_none_or(|name| name != "README.md") {
            files.insert(path.strip_prefix(top)?.to_owned(), std::fs::read(&path)?);
        }
    }
    Ok(files)
}
