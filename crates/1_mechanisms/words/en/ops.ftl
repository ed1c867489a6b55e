# Operations.
OPS001 = cancelled
    .hint = what it had done is undone; give the same command again to start over
OPS002 = there is no operation { $id }
    .hint = posada operation ls
OPS003 = the step { $step } ended with a defect of Posada
    .hint = please report it with the output of `posada doctor` and `posada events`
OPS004 = this version does not know operations of kind { $kind }
    .hint = install the newer version that began it
OPS005 = the operation { $id } has ended already
    .hint = posada operation show { $id }
OPS006 = the operation's record lacks { $name }
    .hint = give the command again
