//! The size of the pages in which memory comes.

/// Has it come in pages of 4 KiB, whatever the allocator asks for. What that has given back comes
/// anew by and by, a few kilobytes at a time; were each a part of 2 MiB that are cleared first, a
/// node under load would spend a tenth of its time on that. Processes that this one starts inherit
/// it, so it is for those that start none but their like.
pub(crate) fn small() {
    #[cfg(target_os = "linux")]
    // Where this cannot be had, all is slower.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
