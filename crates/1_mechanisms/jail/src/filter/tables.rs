//! The tables of system calls behind the filters. Numbers: asm/unistd.h of each architecture.

/// Makes a call number of the C library's constant at compile time.
const fn n(number: libc::c_long) -> u32 {
    assert!(number >= 0 && number < 0x1_0000);
    number as u32
}

/// The newest call that the tables have been checked against (Linux 6.18: file_setattr).
pub(super) const NATIVE_LAST: u32 = 469;

#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE_ARCH: u32 = 0xc000_00b7;

pub(super) const NATIVE_IOCTL: u32 = n(libc::SYS_ioctl);
pub(super) const NATIVE_CLONE3: u32 = n(libc::SYS_clone3);

/// What no guest may call, privileged in its user namespace or not: what concerns the host as a whole (modules, kexec,
/// clock, kernel log, swap, accounting, quotas), what is not bound to namespaces (keyrings, file handles), and large
/// surfaces that a distribution does without (bpf, perf, io_uring, userfaultfd).
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE_REFUSED: &[u32] = &[
    n(libc::SYS_acct),
    n(libc::SYS_add_key),
    n(libc::SYS_bpf),
    n(libc::SYS_clock_settime),
    174, // create_module
    n(libc::SYS_delete_module),
    n(libc::SYS_finit_module),
    177, // get_kernel_syms
    n(libc::SYS_init_module),
    n(libc::SYS_io_uring_enter),
    n(libc::SYS_io_uring_register),
    n(libc::SYS_io_uring_setup),
    n(libc::SYS_ioperm),
    n(libc::SYS_iopl),
    n(libc::SYS_kexec_file_load),
    n(libc::SYS_kexec_load),
    n(libc::SYS_keyctl),
    n(libc::SYS_lookup_dcookie),
    n(libc::SYS_nfsservctl),
    n(libc::SYS_open_by_handle_at),
    n(libc::SYS_perf_event_open),
    178, // query_module
    n(libc::SYS_quotactl),
    n(libc::SYS_quotactl_fd),
    n(libc::SYS_request_key),
    n(libc::SYS_settimeofday),
    n(libc::SYS_swapoff),
    n(libc::SYS_swapon),
    n(libc::SYS_sysfs),
    n(libc::SYS_syslog),
    n(libc::SYS__sysctl),
    n(libc::SYS_uselib),
    n(libc::SYS_userfaultfd),
    n(libc::SYS_ustat),
];

#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE_REFUSED: &[u32] = &[
    n(libc::SYS_acct),
    n(libc::SYS_add_key),
    n(libc::SYS_bpf),
    n(libc::SYS_clock_settime),
    n(libc::SYS_delete_module),
    n(libc::SYS_finit_module),
    n(libc::SYS_init_module),
    n(libc::SYS_io_uring_enter),
    n(libc::SYS_io_uring_register),
    n(libc::SYS_io_uring_setup),
    n(libc::SYS_kexec_file_load),
    n(libc::SYS_kexec_load),
    n(libc::SYS_keyctl),
    n(libc::SYS_lookup_dcookie),
    n(libc::SYS_nfsservctl),
    n(libc::SYS_open_by_handle_at),
    n(libc::SYS_perf_event_open),
    n(libc::SYS_quotactl),
    n(libc::SYS_quotactl_fd),
    n(libc::SYS_request_key),
    n(libc::SYS_settimeofday),
    n(libc::SYS_swapoff),
    n(libc::SYS_swapon),
    n(libc::SYS_syslog),
    n(libc::SYS_userfaultfd),
];

/// Calls that wait for the disk.
pub(super) const NATIVE_SYNC: &[u32] = &[
    n(libc::SYS_fdatasync),
    n(libc::SYS_fsync),
    n(libc::SYS_sync),
    n(libc::SYS_sync_file_range),
    n(libc::SYS_syncfs),
];

/// The same of the 32-bit personality.
#[cfg(target_arch = "x86_64")]
pub(super) const FOREIGN_SYNC: &[u32] = &[
    36,  // sync
    118, // fsync
    148, // fdatasync
    314, // sync_file_range
    344, // syncfs
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FOREIGN_SYNC: &[u32] = &[];

/// The 32-bit personality: audit number, refused calls (the same as above), last call, ioctl.
#[cfg(target_arch = "x86_64")]
pub(super) const FOREIGN: Option<(u32, &[u32], u32, u32)> =
    Some((0x4000_0003, I386_REFUSED, NATIVE_LAST, 54));
#[cfg(target_arch = "aarch64")]
pub(super) const FOREIGN: Option<(u32, &[u32], u32, u32)> = None;

#[cfg(target_arch = "x86_64")]
const I386_REFUSED: &[u32] = &[
    25,  // stime
    51,  // acct
    62,  // ustat
    79,  // settimeofday
    86,  // uselib
    87,  // swapon
    101, // ioperm
    103, // syslog
    110, // iopl
    113, // vm86old
    115, // swapoff
    127, // create_module
    128, // init_module
    129, // delete_module
    130, // get_kernel_syms
    131, // quotactl
    135, // sysfs
    149, // _sysctl
    166, // vm86
    167, // query_module
    169, // nfsservctl
    253, // lookup_dcookie
    264, // clock_settime
    283, // kexec_load
    286, // add_key
    287, // request_key
    288, // keyctl
    336, // perf_event_open
    342, // open_by_handle_at
    350, // finit_module
    357, // bpf
    374, // userfaultfd
    404, // clock_settime64
    425, // io_uring_setup
    426, // io_uring_enter
    427, // io_uring_register
    443, // quotactl_fd
];

/// What a helper may call that reads bytes from descriptors and writes files below its root: memory, threads, time,
/// files. No sockets are made, no other process is touched, nothing is mounted. (The exec that starts it must pass;
/// its root holds nothing else to execute.)
pub(super) const WORKER_ALLOWED: &[u32] = &[
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_access),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_arch_prctl),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_epoll_wait),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_lstat),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_open),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_pipe),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_poll),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_readlink),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_stat),
    n(libc::SYS_brk),
    n(libc::SYS_chdir),
    n(libc::SYS_clock_getres),
    n(libc::SYS_clock_gettime),
    n(libc::SYS_clock_nanosleep),
    n(libc::SYS_clone),
    n(libc::SYS_close),
    n(libc::SYS_close_range),
    n(libc::SYS_copy_file_range),
    n(libc::SYS_dup),
    n(libc::SYS_dup3),
    n(libc::SYS_epoll_create1),
    n(libc::SYS_epoll_ctl),
    n(libc::SYS_epoll_pwait),
    n(libc::SYS_eventfd2),
    n(libc::SYS_execve),
    n(libc::SYS_exit),
    n(libc::SYS_exit_group),
    n(libc::SYS_faccessat),
    n(libc::SYS_faccessat2),
    n(libc::SYS_fadvise64),
    n(libc::SYS_fallocate),
    n(libc::SYS_fchdir),
    n(libc::SYS_fchmod),
    n(libc::SYS_fchmodat),
    n(libc::SYS_fchmodat2),
    n(libc::SYS_fchown),
    n(libc::SYS_fchownat),
    n(libc::SYS_fcntl),
    n(libc::SYS_fdatasync),
    n(libc::SYS_fgetxattr),
    n(libc::SYS_flistxattr),
    n(libc::SYS_flock),
    n(libc::SYS_fsetxattr),
    n(libc::SYS_fstat),
    n(libc::SYS_fstatfs),
    n(libc::SYS_fsync),
    n(libc::SYS_ftruncate),
    n(libc::SYS_futex),
    n(libc::SYS_getcwd),
    n(libc::SYS_getdents64),
    n(libc::SYS_getegid),
    n(libc::SYS_geteuid),
    n(libc::SYS_getgid),
    n(libc::SYS_getpid),
    n(libc::SYS_getppid),
    n(libc::SYS_getrandom),
    n(libc::SYS_getrusage),
    n(libc::SYS_gettid),
    n(libc::SYS_getuid),
    n(libc::SYS_getxattr),
    n(libc::SYS_lgetxattr),
    n(libc::SYS_linkat),
    n(libc::SYS_lsetxattr),
    n(libc::SYS_lseek),
    n(libc::SYS_madvise),
    n(libc::SYS_membarrier),
    n(libc::SYS_mkdirat),
    n(libc::SYS_mknodat),
    n(libc::SYS_mmap),
    n(libc::SYS_mprotect),
    n(libc::SYS_mremap),
    n(libc::SYS_munmap),
    n(libc::SYS_nanosleep),
    n(libc::SYS_newfstatat),
    n(libc::SYS_openat),
    n(libc::SYS_openat2),
    n(libc::SYS_pipe2),
    n(libc::SYS_ppoll),
    n(libc::SYS_prctl),
    n(libc::SYS_pread64),
    n(libc::SYS_preadv),
    n(libc::SYS_preadv2),
    n(libc::SYS_prlimit64),
    n(libc::SYS_pwrite64),
    n(libc::SYS_pwritev),
    n(libc::SYS_pwritev2),
    n(libc::SYS_read),
    n(libc::SYS_readlinkat),
    n(libc::SYS_readv),
    n(libc::SYS_recvfrom),
    n(libc::SYS_recvmsg),
    n(libc::SYS_renameat),
    n(libc::SYS_renameat2),
    n(libc::SYS_restart_syscall),
    n(libc::SYS_rseq),
    n(libc::SYS_rt_sigaction),
    n(libc::SYS_rt_sigprocmask),
    n(libc::SYS_rt_sigreturn),
    n(libc::SYS_sched_getaffinity),
    n(libc::SYS_sched_yield),
    n(libc::SYS_sendmsg),
    n(libc::SYS_sendto),
    n(libc::SYS_set_robust_list),
    n(libc::SYS_set_tid_address),
    n(libc::SYS_sigaltstack),
    n(libc::SYS_statfs),
    n(libc::SYS_statx),
    n(libc::SYS_symlinkat),
    n(libc::SYS_sync_file_range),
    n(libc::SYS_tgkill),
    n(libc::SYS_umask),
    n(libc::SYS_uname),
    n(libc::SYS_unlinkat),
    n(libc::SYS_utimensat),
    n(libc::SYS_wait4),
    n(libc::SYS_write),
    n(libc::SYS_writev),
];

/// What a machine may call: memory, threads, time, and reading and writing what it was handed. Nothing is opened, executed or
/// connected to; no other process is touched.
pub(super) const MACHINE_ALLOWED: &[u32] = &[
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_arch_prctl),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_epoll_wait),
    #[cfg(target_arch = "x86_64")]
    n(libc::SYS_poll),
    n(libc::SYS_accept4),
    n(libc::SYS_brk),
    n(libc::SYS_clock_getres),
    n(libc::SYS_clock_gettime),
    n(libc::SYS_clock_nanosleep),
    n(libc::SYS_clone),
    n(libc::SYS_close),
    n(libc::SYS_dup),
    n(libc::SYS_epoll_create1),
    n(libc::SYS_epoll_ctl),
    n(libc::SYS_epoll_pwait),
    n(libc::SYS_eventfd2),
    n(libc::SYS_exit),
    n(libc::SYS_exit_group),
    n(libc::SYS_fallocate),
    n(libc::SYS_fcntl),
    n(libc::SYS_fdatasync),
    n(libc::SYS_fstat),
    n(libc::SYS_fsync),
    n(libc::SYS_ftruncate),
    n(libc::SYS_futex),
    n(libc::SYS_getpid),
    n(libc::SYS_getrandom),
    n(libc::SYS_getsockopt),
    n(libc::SYS_getrusage),
    n(libc::SYS_gettid),
    n(libc::SYS_io_uring_enter),
    n(libc::SYS_io_uring_register),
    n(libc::SYS_io_uring_setup),
    n(libc::SYS_lseek),
    n(libc::SYS_madvise),
    n(libc::SYS_membarrier),
    n(libc::SYS_memfd_create),
    n(libc::SYS_mmap),
    n(libc::SYS_mprotect),
    n(libc::SYS_mremap),
    n(libc::SYS_munmap),
    n(libc::SYS_nanosleep),
    n(libc::SYS_ppoll),
    n(libc::SYS_prctl),
    n(libc::SYS_pread64),
    n(libc::SYS_preadv),
    n(libc::SYS_preadv2),
    n(libc::SYS_pwrite64),
    n(libc::SYS_pwritev),
    n(libc::SYS_pwritev2),
    n(libc::SYS_read),
    n(libc::SYS_readv),
    n(libc::SYS_recvfrom),
    n(libc::SYS_recvmsg),
    n(libc::SYS_restart_syscall),
    n(libc::SYS_rseq),
    n(libc::SYS_rt_sigaction),
    n(libc::SYS_rt_sigprocmask),
    n(libc::SYS_rt_sigreturn),
    n(libc::SYS_rt_sigtimedwait),
    n(libc::SYS_sched_getaffinity),
    n(libc::SYS_sched_yield),
    n(libc::SYS_sendmsg),
    n(libc::SYS_sendto),
    n(libc::SYS_set_robust_list),
    n(libc::SYS_setsockopt),
    n(libc::SYS_shutdown),
    n(libc::SYS_sigaltstack),
    n(libc::SYS_socketpair),
    n(libc::SYS_statx),
    n(libc::SYS_sync_file_range),
    n(libc::SYS_tgkill),
    n(libc::SYS_write),
    n(libc::SYS_writev),
];
