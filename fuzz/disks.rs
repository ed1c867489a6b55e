//! Disks for the targets: a base that is valid, with the changes that the input names.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::OnceLock;

/// Bytes of a piece of the base that is changed.
const PIECE: usize = 64;

/// Changes bytes of the base where it holds something: four bytes of input are a piece, an offset and a value.
pub fn patched(base: &[u8], input: &[u8]) -> Vec<u8> {
    static USED: OnceLock<Vec<usize>> = OnceLock::new();
    let used = USED.get_or_init(|| {
        let pieces = base.chunks_exact(PIECE).enumerate();
        pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)).map(|(at, _)| at * PIECE).collect()
    });
    let mut bytes = base.to_vec();
    for change in input.chunks_exact(4).filter(|_| !used.is_empty()) {
        let piece = usize::from(u16::from_le_bytes([change[0], change[1]])) % used.len();
        bytes[used[piece] + usize::from(change[2]) % PIECE] = change[3];
    }
    bytes
}

/// A file in memory without a name.
pub fn memory_file() -> File {
    const O_TMPFILE: i32 = 0o20_200_000;
    File::options().read(true).write(true).custom_flags(O_TMPFILE).open("/dev/shm").expect("/dev/shm takes files")
}

/// A small ext4 file system with a kernel, a menu and a journal that has to be replayed; empty without e2fsprogs.
#[allow(dead_code, reason = "each target uses a part")]
pub fn file_system() -> Vec<u8> {
    let folder = std::env::temp_dir().join(format!("posada-fuzz-{}", std::process::id()));
    let boot = folder.join("tree/boot");
    let make = || -> std::io::Result<Vec<u8>> {
        std::fs::create_dir_all(boot.join("grub"))?;
        std::fs::create_dir_all(folder.join("tree/etc"))?;
        std::fs::write(folder.join("tree/etc/fstab"), "UUID=1 /boot ext4\n")?;
        std::fs::write(boot.join("vmlinuz-6.1"), [0x55; 3000])?;
        std::fs::write(boot.join("initrd.img-6.1"), b"07070100000000")?;
        let menu = "if [ x$a = x ]; then set default=0; fi\nmenuentry 'a' --id b {\n linux /boot/vmlinuz-6.1 ro\n initrd /boot/initrd.img-6.1\n}\n";
        std::fs::write(boot.join("grub/grub.cfg"), menu)?;
        std::os::unix::fs::symlink("boot/vmlinuz-6.1", folder.join("tree/vmlinuz"))?;
        let image = folder.join("image");
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        Command::new("mke2fs")
            .env("PATH", &path)
            .args(["-q", "-F", "-t", "ext4", "-b", "1024", "-N", "32", "-J", "size=1"])
            .args(["-O", "^metadata_csum,^resize_inode", "-d"])
            .args([folder.join("tree"), image.clone()])
            .arg("4M")
            .status()?;
        let script = folder.join("script");
        std::fs::write(&script, format!("jo\njw -b 300,301 {}\njw -r 302\njc\n", script.display()))?;
        Command::new("debugfs").env("PATH", &path).args(["-w", "-f"]).args([&script, &image]).status()?;
        std::fs::read(image)
    };
    let made = make().unwrap_or_default();
    let _ = std::fs::remove_dir_all(&folder);
    made
}
