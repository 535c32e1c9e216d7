//! Placeholder header, replaced by the first commit of this part.
