//! Show: what scenarios recorded, as pictures in a terminal and on a page; nothing here runs anything.
//!
//! ```text
//! recording ─▶ scene ─▶ text ─▶ pager
//!                 └───▶ picture ─▶ page
//! ```

mod lines;
pub mod page;
pub mod pager;
pub mod picture;
pub mod recording;
pub mod scene;
pub mod text;
