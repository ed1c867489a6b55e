//! Lists every catalogue file of the two language folders, so that a new area file is embedded without a line of
//! code.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let mut code = String::new();
    for language in ["en", "es"] {
        let folder = Path::new(&root).join(language);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ftl") {
                files.push(path);
            }
        }
        files.sort();
        let constant = language.to_uppercase();
        writeln!(code, "const {constant}: &[(&str, &str)] = &[").map_err(io::Error::other)?;
        for path in files {
            let area = path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default();
            writeln!(
                code,
                "    ({area:?}, include_str!({:?})),",
                path.display().to_string()
            )
            .map_err(io::Error::other)?;
        }
        code.push_str("];\n");
    }
    fs::write(Path::new(&out).join("catalogues.rs"), code)
}
