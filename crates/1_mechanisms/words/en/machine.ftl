# Machines: the process that is one.
MAC001 = the machine's thread { $thread } could not be made
    .hint = the host has too many processes or too little memory: `ulimit -u`, `free -m`
