//! Events in, effects out: coordination.md §1 line by line.

mod joining;
mod leaving;
mod scene;
mod statics;
mod storing;
