# Lo que arranca el propio sistema de un disco.
FND001 = no se encuentra en el disco ningún sistema de archivos con un sistema (hay: { $found })
    .hint = se leen ext2, ext3 y ext4; arranque el núcleo de otro sistema con --kernel, o el cargador del propio disco mediante el firmware
FND002 = no hay ningún núcleo en el disco
    .hint = instale uno dentro (apt install linux-image-cloud-amd64), o indíquelo con --kernel e --initrd
FND003 = no se puede leer { $path }, que nombra el cargador de arranque del disco
    .hint = arranque con --kernel e --initrd y repare la configuración dentro (update-grub)
FND004 = ni el núcleo { $version } ni su initrd tienen { $driver }, sin el cual no encuentra su disco
    .hint = dentro, añada virtio_pci y virtio_blk a /etc/initramfs-tools/modules y ejecute update-initramfs -u; o indique un initrd con --initrd
