//! The memory of a guest.
//!
//! A sandbox lives for one call and is thrown away whole, so a guest gains nothing by
//! looking after memory that it has given back. This allocator hands out one piece after
//! another and takes back only the latest, which is less than a tenth of the code of the
//! standard one (the operator compiles every policy) and the better part of a decision's
//! time. A policy that gives back much in another order than the reverse of taking it may
//! reach the operator's limit of 32 MiB; it depends on the sdk without the feature
//! `allocator`, and has the standard one.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::memory_grow;
use std::cell::Cell;
use std::ptr;

/// Bytes of a page of linear memory, by the WebAssembly specification.
const PAGE: usize = 64 << 10;

/// What is left of the memory that was asked for: from `next` up to `end`.
struct Bump {
    next: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: a policy has one thread; the target is built without the feature `atomics`.
unsafe impl Sync for Bump {}

impl Bump {
    /// Takes `size` bytes, or `None` where the host gives no more.
    fn take(&self, size: usize, align: usize) -> Option<usize> {
        let start = self.next.get().checked_next_multiple_of(align)?;
        match start.checked_add(size) {
            Some(next) if next <= self.end.get() => {
                self.next.set(next);
                Some(start)
            }
            _ => self.grow(size, align),
        }
    }

    #[cold]
    fn grow(&self, size: usize, align: usize) -> Option<usize> {
        // A page is aligned for anything smaller; `align` more is enough for the rest.
        let pages = size.checked_add(align)?.div_ceil(PAGE);
        let grown = memory_grow::<0>(pages);
        if grown == usize::MAX {
            return None;
        }
        let begin = grown * PAGE;
        if begin != self.end.get() {
            self.next.set(begin);
        }
        // The very end of a full 4 GiB would be 0; no host gives that much.
        self.end.set(begin + pages * PAGE);
        self.take(size, align)
    }

    fn is_latest(&self, piece: *mut u8, size: usize) -> bool {
        piece.addr() + size == self.next.get()
    }
}

// SAFETY: pieces lie between `next` and `end`, in memory that the host gave to this
// allocator alone, and `next` goes back only over the piece that was handed out last.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout.size(), layout.align()) {
            Some(start) => ptr::with_exposed_provenance_mut(start),
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if self.is_latest(piece, layout.size()) {
            self.next.set(piece.addr());
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let old = layout.size();
        if self.is_latest(piece, old) && piece.addr() + size <= self.end.get() {
            self.next.set(piece.addr() + size);
            return piece;
        }
        match self.take(size, layout.align()) {
            Some(start) => {
                let new = ptr::with_exposed_provenance_mut(start);
                // SAFETY: both are at least this long, and the new one is another.
                unsafe { ptr::copy_nonoverlapping(piece, new, old.min(size)) };
                new
            }
            None => ptr::null_mut(),
        }
    }
}

#[global_allocator]
static MEMORY: Bump = Bump {
    next: Cell::new(0),
    end: Cell::new(0),
};
