# What a disk's own system starts.
FND001 = no file system with a system on it is found on the disk (found: { $found })
    .hint = ext2, ext3 and ext4 are read; start another system's kernel with --kernel, or the disk's own boot loader through the firmware
FND002 = there is no kernel on the disk
    .hint = install one inside (apt install linux-image-cloud-amd64), or give one with --kernel and --initrd
FND003 = { $path }, which the disk's boot loader names, cannot be read
    .hint = start with --kernel and --initrd and mend the configuration inside (update-grub)
FND004 = neither the kernel { $version } nor its initrd has { $driver }, without which it does not find its disk
    .hint = inside, put virtio_pci and virtio_blk into /etc/initramfs-tools/modules and run update-initramfs -u; or give an initrd with --initrd
