NAM001 = «{ $name }» no puede ser un nombre
    .hint = use de 1 a 63 letras minúsculas, cifras y guiones, empezando por una letra: web-1
SIZ001 = «{ $text }» no es un tamaño
    .hint = escriba un número entero con una unidad: 512M, 4G, 1T
IMG001 = «{ $image }» no nombra ninguna imagen
    .hint = escriba una versión (debian/12), un archivo (file:rootfs.tar.zst), un directorio (./arbol) o un resumen (sha256:…)
