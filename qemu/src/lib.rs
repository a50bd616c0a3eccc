//! From kernel packages to a verdict.
#![forbid(unsafe_code)]
