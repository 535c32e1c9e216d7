//! Why a recording can't go on.

use std::io;

use crate::capture::CaptureError;

/// Why a recording can't go on, although line and target do.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// What comes over the line can't be decoded by this build.
    #[error(transparent)]
    Capture(CaptureError),
    /// The capture can't be written.
    #[error("can't write the capture: {0}")]
    Output(#[from] io::Error),
}
