NAM001 = "{ $name }" cannot be a name
    .hint = use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter: web-1
SIZ001 = "{ $text }" is not a size
    .hint = write a whole number with a unit: 512M, 4G, 1T
IMG001 = "{ $image }" names no image
    .hint = write a release (debian/12), a file (file:rootfs.tar.zst), a directory (./tree) or a digest (sha256:…)
