# La línea de órdenes: lo que dice, lo que pregunta, lo que falla. La ayuda de los verbos está en verbs.ftl.

# Palabras que acompañan a los fallos.
cli-cause = causa:
cli-try = pruebe:
cli-yes-no = [s/N]

# Progreso del trabajo largo.
cli-progress-of = { $done } de { $total }
cli-progress-left = faltan { $seconds } s
cli-interrupted-once = El trabajo sigue por su cuenta; pulse Ctrl-C otra vez ahora para cancelarlo.
cli-cancelling = Cancelando; se está deshaciendo lo hecho.
cli-daemon-starting = Arrancando el demonio de Posada (registro: { $log }).
cli-detached = La operación { $operation } sigue por su cuenta; posada operation show { $operation } --follow vuelve a ella.

# Lo que los verbos han hecho.
cli-started = { $name } está en marcha
cli-stopped = { $name } está parado
cli-restarted = { $name } está en marcha de nuevo
cli-paused = { $name } está en pausa
cli-resumed = { $name } continúa
cli-renamed = { $name } se llama ahora { $new }
cli-removed = { $name } se ha eliminado
cli-removed-hint = Se guarda durante 7 días: posada trash restore { $name }
cli-purged = { $name } ha desaparecido para siempre
cli-restored = { $name } ha vuelto
cli-changed = { $name } se ha cambiado
cli-password-set = contraseña puesta en { $name }
cli-image-removed = la imagen { $name } se ha eliminado
cli-pruned = imágenes eliminadas: { $removed }
cli-unpublished = { $port } ya no está publicado
cli-operation-cancelled = la operación { $id } terminará en su próximo punto seguro
cli-trash-is-empty = La papelera está vacía.
cli-trash-emptied = { $count ->
    [one] Un huésped ha desaparecido para siempre
   *[other] { $count } huéspedes han desaparecido para siempre
}
cli-bootstrapped = { $target } está listo: { $packages } paquetes, { $size } ({ $fetched } descargados)
cli-man-written = { $count } páginas de manual escritas en { $dir }
cli-console-entered = Consola de { $name }. Ctrl-a x la deja, Ctrl-a a envía Ctrl-a.
cli-console-left = {"\u000D"}Ha dejado la consola; el huésped continúa.

# El final de launch.
cli-launched-at = { $name } ({ $image }) está en marcha en { $address }
cli-launched = { $name } ({ $image }) está en marcha
cli-launched-not-running = { $name } está { $state }
cli-launched-port = El puerto { $host } de este anfitrión ({ $at }) lleva al puerto { $guest }.
cli-unenforced = Este anfitrión no puede imponer el límite { $limit }: { $reason }
cli-next-system =
    Para seguir:
      posada shell { $name }          un intérprete de root dentro
      posada exec { $name } -- ORDEN  ejecuta una orden
      posada logs -f { $name }        su consola
cli-launched-processor = { $by }
cli-by-kvm = Corre en el procesador del anfitrión, con KVM.
cli-by-software = Corre en la CPU por software.
cli-by-software-because = Corre en la CPU por software: { $why }.
cli-next-machine =
    Para seguir:
      posada console { $name }        su consola serie (Ctrl-a x la deja)
      posada shell { $name }          un intérprete de root dentro, cuando su sistema esté en marcha
      posada vnc { $name }            su pantalla
cli-vnc-address = Dirección   { $address }
cli-vnc-password = Contraseña  { $password }
screenshot-kept = Lo que muestra la pantalla está en { $file }
cli-next-command =
    Para seguir:
      posada logs -f { $name }        su salida
      posada shell { $name }          un intérprete a su lado

# Preguntas.
cli-ask-purge = { $count ->
    [one] ¿Borrar { $names } para siempre, con todos sus datos?
   *[other] ¿Borrar estos { $count } huéspedes para siempre, con todos sus datos: { $names }?
}
cli-ask-remove = { $count ->
    [one] ¿Eliminar { $names }?
   *[other] ¿Eliminar estos { $count } huéspedes: { $names }?
}
cli-ask-stop = { $count ->
    [one] { $names } está en marcha: ¿pararlo y borrarlo?
   *[other] { $names } están en marcha: ¿pararlos y borrarlos?
}
cli-ask-prune = ¿Eliminar todas las imágenes que no usa ningún huésped?
cli-password = Nueva contraseña de { $user }:
cli-password-again = Otra vez:

# Listados vacíos.
cli-no-guests = Aún no hay huéspedes. Cree uno: posada launch debian/12 web
cli-no-images = Aún no hay imágenes. El primer launch crea una: posada launch debian/12 web

# Estados.
cli-phase-defined = definido
cli-phase-starting = arrancando
cli-phase-running = en marcha
cli-phase-paused = en pausa
cli-phase-saved = guardado
cli-phase-stopping = parando
cli-phase-stopped = parado
cli-phase-failed = fallido
cli-since = desde hace { $age }
cli-ago = hace { $age }
cli-exit-code = terminó con estado { $code }
cli-exit-signal = matado por la señal { $signal }
cli-exit-poweroff = se apagó
cli-exit-reboot = se reinició

# La página de show.
cli-show-name = Nombre
cli-show-id = Id
cli-show-state = Estado
cli-show-reason = Motivo
cli-show-exit = Último final
cli-show-restarts = Reinicios
cli-show-created = Creado
cli-show-kind = Clase
cli-kind-container = contenedor
cli-kind-machine = máquina
cli-show-processor = Corre con
cli-show-processors = Procesadores
cli-show-disks = Discos
cli-show-iso = CD-ROM
cli-show-kernel = Núcleo
cli-show-initrd = Initrd
cli-show-append = Línea de órdenes
cli-show-keymap = Teclado
cli-show-image = Imagen
cli-show-digest = Resumen
cli-show-command = Orden
cli-show-env = Entorno
cli-show-hostname = Nombre de equipo
cli-show-network = Red
cli-show-ports = Puertos
cli-show-limits = Límites
cli-show-mounts = Montajes
cli-show-autostart = Autoarranque
cli-show-policies = Reacciones
cli-show-flags = Marcas
cli-show-ids = Ids del anfitrión
cli-show-labels = Etiquetas
cli-show-pid = Proceso 1
cli-not-enforced = no se impone aquí: { $reason }
cli-autostart = orden { $order }, { $delay } s antes del siguiente
cli-flag-protect = protegido
cli-flag-privileged = privilegiado
cli-flag-nesting = anidamiento
cli-flag-ephemeral = se elimina al parar
cli-flag-firmware = arranca por firmware
cli-flag-headless = sin pantalla
cli-flag-discard-writes = lo que escribe se pierde al parar
cli-explain-commands = Lo mismo a mano

# Redes.
cli-network-mode = Modo
cli-network-bridge = Puente
cli-network-gateway = Pasarela
cli-network-gateway6 = Pasarela (IPv6)
cli-network-domain = Dominio
cli-network-serving = DHCP y DNS
cli-network-lease = Concesión

# top, doctor, version.
cli-top-head = posada top · huéspedes: { $count } · por { $column }
cli-top-keys = c cpu  m memoria  p procesos  n nombre  s estado  r/t red  d/w disco  a todos  q salir
cli-verdict-good = bien
cli-verdict-limited = limitado
cli-verdict-bad = mal
cli-version-daemon = demonio { $version } (interfaz { $api }, proceso { $pid })
cli-version-no-daemon = no hay ningún demonio en marcha

cli-exit-statuses =
    Estados de salida de posada:

      0    ha funcionado
      1    ha fallado, o ha fallado con algunos de varios huéspedes
      2    la línea de órdenes está mal
      3    no se puede hablar con el demonio
      125  exec, shell, launch --rm: Posada falló antes de que la orden pudiera ejecutarse
      126  exec: la orden no se puede ejecutar
      127  exec: la orden no se ha encontrado
      128+n  a la orden la mató la señal n
      130  dejado con Ctrl-C; el trabajo sigue
      otro  exec, shell, launch --rm, jail: el estado de la propia orden

# Fallos.
CLI001 = no existe el verbo «{ $verb }»
    .hint = { $meant ->
        [none] posada help muestra todos los verbos
       *[other] posada { $meant }
    }
CLI002 = no existe aquí la opción «{ $option }»
    .hint = { $meant ->
        [none] uso: { $usage }
       *[other] ¿quería decir { $meant }?
    }
CLI003 = falta algo: { $argument }
    .hint = uso: { $usage }
CLI004 = «{ $value }» no es un valor de { $option }
    .hint = { $allowed ->
        [none] posada help dice qué admite
       *[other] uno de: { $allowed }
    }
CLI005 = { $option } y { $other } se excluyen
    .hint = quite una de las dos
CLI006 = la línea de órdenes está mal
    .hint = uso: { $usage }
CLI007 = «{ $text }» no es un puerto que publicar
    .hint = escriba [IP:]ANFITRIÓN:HUÉSPED[/udp], como 8000:80, 127.0.0.1:2200:22 o 53:53/udp
CLI008 = «{ $text }» no es un montaje
    .hint = escriba ANFITRIÓN:HUÉSPED[:ro] con una ruta absoluta en el huésped, como ./www:/srv/www:ro
CLI009 = «{ $text }» no tiene la forma clave=valor
    .hint = como nivel=frontal
CLI010 = ningún huésped se llama { $selector }
    .hint = posada ls muestra los huéspedes que hay
CLI011 = no se ha nombrado ningún huésped
    .hint = nombre huéspedes (valen patrones como 'web-*'), o use --label CLAVE=VALOR o --all
CLI012 = no se ha hecho nada, porque nadie ha dicho que sí
    .hint = con --yes se hace sin preguntar
CLI013 = { $path } no se puede leer o escribir
    .hint = compruebe la ruta y sus permisos: ls -ld { $path }
CLI014 = { $name } no tiene dirección
    .hint = posada wait { $name } ip --timeout 30 espera a que la tenga; posada show { $name } dice su estado
CLI015 = no se puede ejecutar el programa { $program }
    .hint = instálelo: apt-get install { $package }
CLI016 = no se ha dado una contraseña utilizable
    .hint = no puede estar vacía y debe escribirse igual dos veces; los guiones usan --password-stdin
CLI017 = el demonio de Posada no ha arrancado
    .hint = su registro dice por qué: tail { $log }
CLI018 = no existe el ajuste «{ $key }»
    .hint = ajustes: { $keys }
CLI019 = cp copia entre este anfitrión y un huésped
    .hint = uno de los lados es NOMBRE:RUTA, como posada cp web:/etc/hosts . o posada cp ./sitio web:/srv
CLI020 = ningún error tiene el código { $code }
    .hint = los códigos son tres letras y tres cifras, como NET014
CLI021 = han fallado { $failed } de { $total }
    .hint = arriba se dice qué ha fallado
CLI022 = El trabajo sigue por su cuenta como la operación { $operation }.
    .hint = posada operation show { $operation } --follow vuelve a ella, posada operation cancel { $operation } la termina
CLI023 = esto necesita un terminal
    .hint = quite -t, o ejecútelo desde un terminal
CLI024 = nadie lee la salida
    .hint = repita la orden
CLI025 = no existe la columna «{ $column }»
    .hint = columnas: { $columns }; o cualquier campo del registro por su ruta, como status.phase
CLI026 = la sesión se ha interrumpido
    .hint = posada show NOMBRE dice si el huésped sigue en marcha
CLI027 = { $path } no es un directorio
    .hint = créelo antes: mkdir -p { $path }
CLI028 = no hay nada que cambiar
    .hint = posada set NOMBRE CLAVE=VALOR, posada publish NOMBRE 8000:80, posada publish NOMBRE --remove 8000:80
CLI029 = varios huéspedes eliminados se llamaban { $name }
    .hint = dé el id de uno: { $ids }
CLI030 = en la papelera no hay nada que se llame { $name }
    .hint = posada trash ls muestra lo que hay
CLI031 = «{ $text }» no es un número que admita { $option }
    .hint = escriba cifras, como 2; un tiempo puede llevar unidad, como 90s o 2m
CLI032 = { $path } no es un árbol raíz
    .hint = cree uno: posada bootstrap debian/12 { $path }
CLI033 = esto necesita root
    .hint = ponga sudo delante de la orden
CLI034 = el huésped { $name } ya ha terminado: { $exit }
    .hint = posada logs { $name } muestra lo que dijo; posada events dice si le faltó memoria
CLI035 = { $option } es para máquinas
    .hint = añada --vm
