CGR001 = el núcleo rechaza { $value } en { $path }
    .hint = posada doctor dice qué controladores tiene este anfitrión
CGR002 = no hay ninguna jerarquía de cgroup montada
    .hint = mount -t cgroup2 cgroup2 /sys/fs/cgroup
CGR003 = no se puede crear el cgroup { $path }
    .hint = posada doctor; dentro de un contenedor hay que delegarle los cgroups
CGR004 = no se puede borrar el cgroup { $path }: quedan procesos en él
    .hint = cat { $path }/cgroup.procs
CGR005 = el núcleo rechaza el límite { $limit } = { $value }
    .hint = elija un valor que el anfitrión tenga (procesadores: nproc; memoria: más de la que usa ahora el huésped)
CGR006 = no se pueden congelar los procesos de { $path }
    .hint = posada doctor dice si este anfitrión tiene congelador (freezer)
CGR007 = hay procesos en { $path } que sobreviven a kill
    .hint = están colgados en el núcleo, a menudo por un disco o un montaje de red muertos; dmesg puede decirlo
CGR008 = { $path } no es la ruta de un cgroup
    .hint = una ruta como posada/guests/NOMBRE, sin .. ni barra inicial
