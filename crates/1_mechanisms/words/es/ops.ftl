# Operaciones.
OPS001 = cancelada
    .hint = lo que había hecho está deshecho; repita la misma orden para empezar de nuevo
OPS002 = no existe la operación { $id }
    .hint = posada operation ls
OPS003 = el paso { $step } acabó por un defecto de Posada
    .hint = comunícalo, por favor, con la salida de `posada doctor` y `posada events`
OPS004 = esta versión no conoce operaciones de tipo { $kind }
    .hint = instale la versión más nueva que la empezó
OPS005 = la operación { $id } ya ha terminado
    .hint = posada operation show { $id }
OPS006 = al registro de la operación le falta { $name }
    .hint = repita la orden
