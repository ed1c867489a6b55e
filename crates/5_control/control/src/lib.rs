//! The control plane: admission, reconcilers and operations over all services.
