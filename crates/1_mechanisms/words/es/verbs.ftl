# La ayuda de cada verbo: lo que hace, ejemplos, argumentos (como atributos del mismo nombre).

cli = Posada, una casa para huéspedes: contenedores y máquinas en este anfitrión.
    .examples =
        posada launch debian/12 web --publish 8000:80    crea un huésped y lo arranca
        posada shell web                                 entra en él
        posada exec web -- apt-get install -y nginx      ejecuta una orden dentro
        posada ls                                        muestra todos los huéspedes
        posada stop web                                  lo para
        posada rm web                                    lo elimina (queda 7 días en la papelera)
cli-footer =
    posada VERBO --help explica un verbo, posada help CÓDIGO un error, posada help exit los estados de salida.
    Los huéspedes se eligen por nombres, patrones ('web-*'), --label CLAVE=VALOR o --all.

cli-heading-examples = Ejemplos:
cli-heading-usage = Uso:
cli-heading-verbs = Verbos:
cli-heading-arguments = Argumentos:
cli-heading-options = Opciones:
cli-heading-everywhere = Opciones de todos los verbos:
cli-one-of = { $help } ({ $values })
cli-usage-options = [OPCIONES]
cli-usage-verb = VERBO
cli-group-life = Del principio al fin:
cli-group-look = Mirar:
cli-group-inside = Estar dentro:
cli-group-change = Cambiar:
cli-group-nouns = Imágenes, redes, operaciones:
cli-group-host = Este anfitrión, este programa:

cli-value = huecos
    .name = NOMBRE
    .new = NUEVO
    .file = ARCHIVO
    .path = RUTA
    .dir = DIR
    .user = USUARIO
    .time = TIEMPO
    .size = TAMAÑO
    .number = NÚMERO
    .seconds = SEGUNDOS
    .lines = LÍNEAS
    .ports = PUERTOS
    .image = IMAGEN
    .column = COLUMNA
    .format = FORMATO
    .language = IDIOMA
    .when = CUÁNDO
    .address = DIRECCIÓN
    .zone = ZONA
    .list = LISTA
    .reaction = REACCIÓN
    .signal = SEÑAL
    .engine = MOTOR
    .condition = CONDICIÓN
    .topic = TEMA
    .source = ORIGEN
    .target = DESTINO
    .key-value = CLAVE=VALOR
    .cmd = ORDEN
    .dir-file = DIR|ARCHIVO
    .size-file = TAMAÑO|ARCHIVO
    .text = TEXTO
    .flavour = VARIEDAD
    .keymap = TECLADO
    .host-guest--ro- = ANFITRIÓN:HUÉSPED[:ro]
    .locale = LOCALE
    .arch = ARQUITECTURA
    .variant = VARIANTE
    .revision = REVISIÓN
    .shell = INTÉRPRETE

cli-common = Argumentos que significan lo mismo en todas partes
    .guest = Nombres o patrones de huéspedes
    .label = Solo huéspedes con esta etiqueta; se puede repetir
    .all = Todos los huéspedes
    .yes = No preguntar
    .columns = Columnas que mostrar, o campos del registro por su ruta (status.phase)
    .filter = Solo entradas cuya columna o campo tiene este valor; valen patrones
    .sort = Ordenar por esta columna; -COLUMNA de mayor a menor
    .watch = Mostrarlo de nuevo cada tantos segundos (2 si no se dice otra cosa)
    .socket = Socket del demonio; también POSADA_SOCKET
    .project = Proyecto de los huéspedes
    .quiet = Solo datos: nombres e ids, sin palabras
    .format = Cómo se escriben los datos
    .color = Cuándo usar color
    .lang = Idioma de las palabras
    .help = Mostrar esta ayuda
    .version = Mostrar la versión
    .memory = Memoria máxima, como 512M o 4G; en una máquina, toda la que tiene
    .swap = Intercambio máximo además de la memoria
    .cpus = Tiempo de procesador en procesadores, como 0.5 o 2; en una máquina, sus procesadores, un número entero
    .cpu-weight = Parte del tiempo de procesador entre competidores, de 1 a 10000; lo normal es 100
    .cpu-pin = Procesadores en los que puede correr, como 0-3,8
    .pids = Máximo de procesos e hilos
    .follow = Continuar con lo que llegue
    .image = Una versión (debian/12), un archivo (file:rootfs.tar.zst), un directorio (./arbol), un resumen (sha256:…), o none para una máquina que arranca de otra cosa
    .dry-run = Mostrar solo lo que se haría

cli-launch = Crea un huésped a partir de una imagen y lo arranca
    .examples =
        posada launch debian/12 web --publish 8000:80
        posada launch debian/12 srv --include openssh-server --user ana --ssh-key k.pub --publish 2200:22
        posada launch debian/12 db --memory 512M --cpus 1.5 --mount ./datos:/srv/datos
        posada launch --rm debian/12 tarea -- sh -c 'echo hola'
        posada launch debian/12 caja --vm --memory 512M --disk 4G
        posada launch --vm --iso instalador.iso --disk 8G --firmware caja
    .name = Nombre del huésped; si falta, se inventa uno agradable
    .command = Ejecutar esto en vez del init de la distribución: un contenedor de aplicación
    .publish = Llevar un puerto de este anfitrión al huésped: [IP:]ANFITRIÓN:HUÉSPED[/udp]; se puede repetir
    .user = Crear este usuario dentro, con sudo si la imagen lo tiene
    .ssh-key = Clave pública de ese usuario (de root sin --user)
    .password-stdin = Leer la contraseña de ese usuario (de root sin --user) de la entrada estándar
    .hostname = Nombre de equipo dentro; si falta, el nombre del huésped
    .network = Enchufarlo a esta red; se puede repetir
    .ip = Dirección IPv4
    .mac = Dirección MAC
    .nameserver = Servidor de nombres en vez del de la red
    .no-network = Sin tarjeta de red
    .locale = Localización dentro, como es_ES.UTF-8
    .timezone = Zona horaria dentro, como Europe/Madrid
    .include = Más paquetes, separados por comas
    .mount = Mostrar un directorio de este anfitrión en el huésped: ANFITRIÓN:HUÉSPED[:ro]
    .proxy = Proxy dentro: host (el de este anfitrión), none (ninguno) o una URL
    .env = Variable de la orden; CLAVE sola toma el valor de aquí
    .interactive = Pasar la entrada estándar a la orden
    .tty = Dar un terminal a la orden
    .no-tty = No dar terminal a la orden
    .env-file = Variables de la orden, una CLAVE=VALOR por línea
    .workdir = Directorio de trabajo de la orden
    .privileged = Dentro, los derechos de root de este anfitrión; solo para huéspedes de plena confianza
    .nesting = Permitir crear contenedores dentro
    .rm = Eliminarlo al parar; con una orden, ejecutarla en primer plano
    .no-start = Crearlo sin arrancarlo
    .label = Etiqueta para elegirlo; se puede repetir
    .autostart = Arrancarlo con el anfitrión
    .autostart-order = Los números más bajos arrancan antes
    .autostart-delay = Segundos antes de que arranque el siguiente
    .on-poweroff = Qué sigue cuando se apaga
    .on-reboot = Qué sigue cuando se reinicia
    .on-crash = Qué sigue cuando se cae
    .stop-signal = Señal de una parada ordenada, como SIGTERM
    .protect = Negarse a pararlo o eliminarlo
    .vm = Una máquina con su propio núcleo en vez de un contenedor
    .disk = Tamaño del disco que se hace de la imagen (4G si no se dice otra cosa), o de uno vacío; o un archivo raw o qcow2 de este anfitrión, con :ro detrás para solo leerlo; se puede repetir
    .iso = Imagen de CD-ROM de este anfitrión, que arranca
    .kernel = Núcleo de este anfitrión en vez del que lleva el disco
    .initrd = Initrd de ese núcleo
    .append = Se añade a la línea de órdenes del núcleo; con --kernel, toda ella
    .kernel-flavour = Cuál de los núcleos de la distribución recibe el disco
    .firmware = Arrancar por firmware (SeaBIOS) y el cargador del propio disco
    .headless = Sin pantalla ni teclado
    .keymap = Teclado de quien escribe ante su pantalla
    .ephemeral = Perder al parar lo que escriba en sus discos
    .engine = Cómo se virtualiza
    .detach = No esperar a que esté en marcha

cli-start = Arranca huéspedes
    .examples =
        posada start web
        posada start 'web-*'

cli-stop = Para huéspedes: lo pide, y pasado un rato los mata
    .examples =
        posada stop web
        posada stop --all --timeout 10s
    .force = Matar de inmediato
    .timeout = Cuánto esperar antes de matar; 30s si no se dice otra cosa

cli-restart = Para y arranca huéspedes
    .examples =
        posada restart web
    .force = Matar de inmediato
    .timeout = Cuánto esperar antes de matar; 30s si no se dice otra cosa

cli-pause = Congela huéspedes: no usan procesador hasta que se reanudan
    .examples =
        posada pause web

cli-resume = Deja continuar a los huéspedes en pausa
    .examples =
        posada resume web

cli-rename = Da otro nombre a un huésped
    .examples =
        posada rename web www
    .guest = Su nombre
    .new = Su nombre nuevo

cli-rm = Elimina huéspedes; quedan 7 días en la papelera
    .examples =
        posada rm web
        posada rm --force --purge 'prueba-*'
    .force = Matarlo antes si está en marcha, y no preguntar
    .purge = Borrarlo para siempre en vez de guardarlo en la papelera

cli-trash = Muestra los huéspedes eliminados, los recupera o los borra para siempre
    .examples =
        posada trash ls
        posada trash restore web
        posada trash empty --yes
cli-trash-ls = Lista los huéspedes eliminados
cli-trash-restore = Recupera huéspedes eliminados
    .entry = Nombre o id
cli-trash-empty = Los borra todos para siempre

cli-ls = Lista los huéspedes
    .examples =
        posada ls
        posada ls --filter state=running --sort -memory
        posada ls --format json
        posada ls --columns name,address,status.pid --watch
    .running = Solo los que están en marcha

cli-show = Muestra todo sobre huéspedes
    .examples =
        posada show web
        posada show web --format yaml

cli-top = Muestra en vivo lo que usa cada huésped
    .examples =
        posada top
        posada top --once --format json
        posada top --sort -memory
    .interval = Segundos entre dos miradas; 2 si no se dice otra cosa
    .once = Mostrarlo una vez y terminar
    .all = También huéspedes que no están en marcha

cli-logs = Muestra lo que un huésped ha escrito en su consola
    .examples =
        posada logs web
        posada logs -f --tail 20 web
    .guest = Su nombre
    .tail = Solo las últimas líneas, tantas
    .firmware = En su lugar, lo que dijo el firmware de una máquina

cli-events = Muestra lo que ha pasado
    .examples =
        posada events
        posada events --follow --filter 'target=guests/web'
    .since = Solo los sucesos posteriores a esta revisión

cli-wait = Espera a que un huésped esté en marcha, tenga dirección o haya parado
    .examples =
        posada wait web ip --timeout 30s
        posada start tarea && posada wait tarea stopped
    .guest = Su nombre
    .condition = A qué esperar
    .timeout = Cuánto como mucho

cli-explain = Muestra el mecanismo que hay bajo un huésped, y cómo hacerlo a mano
    .examples =
        posada explain web
    .guest = Su nombre

cli-ip = Escribe la dirección de los huéspedes
    .examples =
        posada ip web
        ping $(posada ip web)
    .ipv6 = La dirección IPv6

cli-shell = Abre un intérprete de órdenes en un huésped
    .examples =
        posada shell web
        posada shell web --user ana
    .guest = Su nombre
    .user = Usuario dentro; root si no se dice otra cosa
    .workdir = Directorio en que empezar

cli-exec = Ejecuta una orden en un huésped
    .examples =
        posada exec web -- apt-get install -y nginx
        posada exec web -u www-data -w /srv -e A=1 -- id
        tar c . | posada exec -i web -- tar x -C /srv
    .guest = Su nombre
    .command = La orden y sus argumentos
    .interactive = Pasar la entrada estándar aunque sea un terminal
    .tty = Darle un terminal
    .no-tty = No darle terminal
    .env = Variable de la orden; CLAVE sola toma el valor de aquí
    .workdir = Directorio de trabajo
    .user = Usuario dentro, como ana o 33:33; root si no se dice otra cosa

cli-console = Se conecta a la consola de un huésped; Ctrl-a x la deja
    .examples =
        posada console web
    .guest = Su nombre

cli-vnc = Muestra dónde se sirve la pantalla de una máquina, y su contraseña
    .examples =
        posada vnc db
        posada vnc db --format json
    .guest = Su nombre

cli-screenshot = Muestra lo que hay en la pantalla de una máquina, como imagen o como texto
    .examples =
        posada screenshot db
        posada screenshot db --text
        posada screenshot db db.png
    .guest = Su nombre
    .file = Archivo para ello; NOMBRE.png para una imagen si no se dice otro, - para la salida estándar
    .text = Como texto

cli-ssh = Se conecta a un huésped por ssh, sea cual sea su dirección
    .examples =
        posada ssh web
        posada ssh ana@web -- uptime
    .guest = Su nombre, y el usuario delante
    .user = Usuario dentro; el creado con launch, o si no root
    .command = Orden que ejecutar en vez de un intérprete

cli-cp = Copia archivos entre este anfitrión y un huésped
    .examples =
        posada cp web:/etc/nginx/nginx.conf .
        posada cp ./sitio web:/srv
        posada cp web:/var/log - | tar t
    .source = Qué copiar: una ruta de este anfitrión, NOMBRE:RUTA, o - para un flujo tar
    .target = Adónde: lo mismo

cli-set = Cambia ajustes de un huésped, también en marcha
    .examples =
        posada set web memory=1G cpus=2
        posada set web protect=true label.nivel=frontal
        posada set web --memory none
        posada set db --iso none
    .guest = Su nombre
    .setting = Ajustes; el valor none quita uno
    .label = Etiqueta que poner; un valor vacío la quita
    .iso = Imagen de CD-ROM para la unidad de una máquina; none la expulsa
    .append = Lo que se añade a la línea de órdenes del núcleo de una máquina

cli-publish = Lleva puertos de este anfitrión a un huésped
    .examples =
        posada publish web 2300:23
        posada publish web 127.0.0.1:8080:80 53:53/udp
        posada publish web --remove 2300
        posada publish web
    .guest = Su nombre
    .ports = Puertos como [IP:]ANFITRIÓN:HUÉSPED[/udp]; sin ninguno, se muestra lo publicado
    .remove = Retirar un puerto

cli-passwd = Pone una contraseña en un huésped
    .examples =
        posada passwd web ana
        printf secreto | posada passwd web --password-stdin
    .guest = Su nombre
    .user = Usuario dentro; root si no se dice otra cosa
    .password-stdin = Leerla de la entrada estándar

cli-image = Muestra, elimina y ordena imágenes
    .examples =
        posada image ls
        posada image show debian/12
        posada image prune --yes
cli-image-ls = Lista las imágenes
cli-image-show = Muestra todo sobre imágenes
cli-image-rm = Elimina imágenes
cli-image-prune = Elimina las imágenes que no usa ningún huésped

cli-network = Muestra las redes
    .examples =
        posada network ls
        posada network show default
cli-network-ls = Lista las redes
cli-network-show = Muestra una red y las direcciones que ha repartido
    .network = Su nombre

cli-operation = Muestra el trabajo largo, vuelve a él, lo cancela
    .examples =
        posada operation ls
        posada operation show 3f2a --follow
        posada operation cancel 3f2a
cli-operation-ls = Lista las operaciones de la última hora y las que están en curso
    .all = Todas las guardadas
cli-operation-show = Muestra una operación
    .operation = Su id, o el principio
cli-operation-cancel = Cancela operaciones; lo que habían hecho se deshace
    .operation = Sus ids, o los principios

cli-bootstrap = Crea un árbol raíz a partir de un archivo firmado de Debian, sin el demonio
    .examples =
        posada bootstrap debian/12 ./arbol
        posada bootstrap debian/13 rootfs.tar.zst --include vim,less
    .target = Un directorio nuevo o vacío, o un archivo .tar, .tar.gz o .tar.zst
    .arch = Arquitectura, con el nombre que le da Debian
    .variant = Cuánto de la versión
    .include = Más paquetes, separados por comas
    .exclude = Paquetes que dejar fuera
    .mirror = Dirección del archivo de paquetes
    .components = Componentes del archivo; main si no se dice otra cosa
    .keyring = Anillo de claves que debe haber firmado el archivo
    .cache-dir = Dónde se guardan las descargas

cli-jail = Ejecuta un programa en un árbol raíz, en espacios de nombres propios, sin el demonio
    .examples =
        posada jail ./arbol
        posada jail ./arbol --own net --mount ./src:/src -- make -C /src
    .dir = El árbol raíz
    .command = El programa y sus argumentos; sin ninguno, un intérprete de entrada
    .share = Espacios de nombres compartidos con el anfitrión, además de la red: pid, uts, ipc
    .own = Espacios de nombres propios además de pid, uts e ipc: net, cgroup
    .hostname = Nombre de equipo dentro; el de este anfitrión si no se dice otra cosa
    .workdir = Directorio en que empezar
    .mount = Mostrar dentro un directorio de este anfitrión: ANFITRIÓN:HUÉSPED[:ro]
    .env = Variable dentro
    .user = Usuario dentro; root si no se dice otra cosa

cli-doctor = Dice lo que este anfitrión puede y no puede, y cómo arreglarlo
    .examples =
        posada doctor

cli-version = Muestra las versiones de este programa y del demonio
    .examples =
        posada version --format json

cli-completion = Escribe un guion que completa verbos, opciones y nombres vivos
    .examples =
        posada completion bash > /etc/bash_completion.d/posada
        posada completion zsh > "$fpath[1]/_posada"
        posada completion fish > ~/.config/fish/completions/posada.fish
    .shell = El intérprete de órdenes

cli-help = Explica un verbo, un código de error o los estados de salida
    .examples =
        posada help launch
        posada help NET014
        posada help exit
    .topic = Un verbo, un código como NET014, o exit

cli-man = Escribe las páginas de manual en un directorio
    .dir = El directorio
