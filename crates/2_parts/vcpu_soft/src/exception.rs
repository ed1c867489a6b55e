//! Exceptions: how instructions raise them, and their classes (SDM Vol. 3 chapter 7).

use crate::cpu::Cpu;
use crate::op::Stop;

/// Vectors.
pub(crate) mod vector {
    pub(crate) const DIVIDE: u8 = 0;
    pub(crate) const DEBUG: u8 = 1;
    pub(crate) const NMI: u8 = 2;
    pub(crate) const BREAKPOINT: u8 = 3;
    pub(crate) const OVERFLOW: u8 = 4;
    pub(crate) const BOUND: u8 = 5;
    pub(crate) const UNDEFINED: u8 = 6;
    pub(crate) const NO_DEVICE: u8 = 7;
    pub(crate) const DOUBLE: u8 = 8;
    pub(crate) const TASK: u8 = 10;
    pub(crate) const NOT_PRESENT: u8 = 11;
    pub(crate) const STACK: u8 = 12;
    pub(crate) const PROTECTION: u8 = 13;
    pub(crate) const PAGE: u8 = 14;
    pub(crate) const FLOAT: u8 = 16;
    pub(crate) const ALIGNMENT: u8 = 17;
    pub(crate) const SIMD: u8 = 19;
}

/// Why an instruction did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Why {
    /// It raised [`Cpu::exception`].
    #[default]
    Exception,
    /// It shall be started again after a look at requests: a long string instruction, or its block has gone.
    Again,
    /// A triple fault.
    Shutdown,
    /// Something that this processor does not do: the name of it.
    Unsupported(&'static str),
}

/// An exception with its error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Exception {
    pub(crate) vector: u8,
    pub(crate) error: Option<u32>,
}

/// How a second exception during the delivery of a first counts (SDM Vol. 3 table 7-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Benign,
    Contributory,
    Page,
    Double,
}

impl Exception {
    /// Its class.
    pub(crate) fn class(self) -> Class {
        match self.vector {
            vector::DIVIDE | vector::TASK | vector::NOT_PRESENT | vector::STACK | vector::PROTECTION => {
                Class::Contributory
            }
            vector::PAGE => Class::Page,
            vector::DOUBLE => Class::Double,
            _ => Class::Benign,
        }
    }
}

impl Cpu {
    /// Raises an exception.
    #[cold]
    pub(crate) fn raise<T>(&mut self, vector: u8, error: Option<u32>) -> Result<T, Stop> {
        self.stop = Why::Exception;
        self.exception = Exception { vector, error };
        Err(Stop)
    }

    /// #GP.
    #[cold]
    pub(crate) fn protection<T>(&mut self, error: u32) -> Result<T, Stop> {
        self.raise(vector::PROTECTION, Some(error))
    }

    /// #SS.
    #[cold]
    pub(crate) fn stack_fault<T>(&mut self, error: u32) -> Result<T, Stop> {
        self.raise(vector::STACK, Some(error))
    }

    /// #UD.
    #[cold]
    pub(crate) fn undefined<T>(&mut self) -> Result<T, Stop> {
        self.raise(vector::UNDEFINED, None)
    }

    /// #AC.
    #[cold]
    pub(crate) fn alignment<T>(&mut self) -> Result<T, Stop> {
        self.raise(vector::ALIGNMENT, Some(0))
    }

    /// #DE.
    #[cold]
    pub(crate) fn divide<T>(&mut self) -> Result<T, Stop> {
        self.raise(vector::DIVIDE, None)
    }

    /// #PF at a linear address.
    #[cold]
    pub(crate) fn page_fault<T>(&mut self, linear: u64, code: u32) -> Result<T, Stop> {
        self.cr2 = linear;
        self.raise(vector::PAGE, Some(code))
    }

    /// Something that the processor cannot do at all.
    #[cold]
    pub(crate) fn unsupported<T>(&mut self, what: &'static str) -> Result<T, Stop> {
        self.stop = Why::Unsupported(what);
        Err(Stop)
    }

    /// The instruction shall start again after a look at requests.
    #[cold]
    pub(crate) fn again<T>(&mut self) -> Result<T, Stop> {
        self.stop = Why::Again;
        Err(Stop)
    }
}
