//! What a machine's image holds beyond a container's: a kernel and what makes its initrd.

use fault::Result;
use model::{ImageRef, KernelFlavour};

use crate::bootstrap::architecture;

/// What every machine needs beside its kernel: an initrd with udev in it, compressed by what unpacks fast, and the
/// tools that make and check its root file system.
const MACHINE: &[&str] = &["initramfs-tools", "udev", "kmod", "e2fsprogs", "zstd"];

/// The packages to be included in the image of a machine, for [`crate::Images::ensure`]; none for images that are not
/// made from an archive: they hold a kernel, or the machine is started with one of the host. Without `arch` for the
/// host's own architecture.
///
/// # Errors
/// [`crate::codes::ARCHITECTURE`].
pub fn packages(image: &ImageRef, flavour: KernelFlavour, arch: Option<&str>) -> Result<Vec<String>> {
    let ImageRef::Release { .. } = image else {
        return Ok(Vec::new());
    };
    let mut packages = vec![kernel(flavour, &architecture(arch)?)];
    packages.extend(MACHINE.iter().map(|name| (*name).to_owned()));
    Ok(packages)
}

/// Debian's metapackage of a kernel.
fn kernel(flavour: KernelFlavour, arch: &str) -> String {
    let name = match (flavour, arch) {
        (KernelFlavour::Cloud, "amd64" | "arm64") => return format!("linux-image-cloud-{arch}"),
        // Every processor of 32 bits that a machine has here knows PAE.
        (_, "i386") => "686-pae",
        (_, "armhf") => "armmp-lpae",
        (_, "ppc64el") => "powerpc64le",
        (_, arch) => arch,
    };
    format!("linux-image-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_gets_the_kernel_of_its_flavour() {
        assert_eq!(kernel(KernelFlavour::Cloud, "amd64"), "linux-image-cloud-amd64");
        assert_eq!(kernel(KernelFlavour::Generic, "amd64"), "linux-image-amd64");
        // There is no cloud kernel of 32 bits.
        assert_eq!(kernel(KernelFlavour::Cloud, "i386"), "linux-image-686-pae");
        assert_eq!(kernel(KernelFlavour::Cloud, "ppc64el"), "linux-image-powerpc64le");
    }

    #[test]
    fn an_image_that_is_a_file_gets_no_packages() {
        let image = "file:/srv/disk.img".parse().unwrap();
        assert!(packages(&image, KernelFlavour::Cloud, None).unwrap().is_empty());
        let image = "debian/12".parse().unwrap();
        let names = packages(&image, KernelFlavour::Cloud, None).unwrap();
        assert!(names[0].starts_with("linux-image-") && names.contains(&"e2fsprogs".to_owned()));
    }
}
