//! The processor behind /dev/kvm.
