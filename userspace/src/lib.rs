//! Finds out by experiment which claims about mmap are true.
