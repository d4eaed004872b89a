//! A file that bypasses the system's cache: what is written once and hardly read does not pay for a copy in memory.
//!
//! The disk takes whole blocks at block boundaries. A write that begins or ends within a block writes that block again with
//! what it had; synced bytes are written as they are, so a torn write does them no harm.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt as _};
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, OFlags, StatxFlags};

use crate::ports::storage::StoredFile;

/// Of what the disk takes: a multiple of what disks and file systems ask for.
const BLOCK_BYTES: usize = 4096;

pub(super) struct DirectFile {
    file: File,
    written: Mutex<Written>,
}

struct Written {
    /// Bytes of the file.
    length: u64,
    /// Nothing but zeros from here on.
    end: u64,
    /// The block that was written last, and where it is.
    last: Option<(u64, Box<[u8]>)>,
}

impl DirectFile {
    /// A new file in `path`; `None` if there is a file already, or if its file system wants a cache or larger blocks.
    pub(super) fn create_new(path: &Path) -> io::Result<Option<Self>> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        let opened = OpenOptions::new().read(true).write(true).create_new(true).custom_flags(flags).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidInput) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let written = Mutex::new(Written { length: 0, end: 0, last: None });
        Ok(takes_blocks(&file)?.then_some(Self { file, written }))
    }

    /// Fills `buffer`, whose address and length are those of blocks, from the block boundary `start` on; returns how much
    /// there was.
    fn read_blocks(&self, buffer: &mut [u8], start: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(&self.file, &mut buffer[filled..], start + filled as u64) {
                // Behind a part of a block there is the end of the file.
                Ok(read) if read % BLOCK_BYTES != 0 || read == 0 => return Ok(filled + read),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

fn takes_blocks(file: &File) -> io::Result<bool> {
    let status = match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(status) => status,
        Err(rustix::io::Errno::NOSYS) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let fits = |align: u32| align > 0 && BLOCK_BYTES.is_multiple_of(align as usize);
    Ok(fits(status.stx_dio_mem_align) && fits(status.stx_dio_offset_align))
}

/// Memory of whole blocks at a block boundary, all zeros.
struct Blocks {
    memory: Vec<u8>,
    offset: usize,
    length: usize,
}

impl Blocks {
    fn zeroed(length: usize) -> Self {
        let memory = vec![0; length + BLOCK_BYTES];
        let offset = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, offset, length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.offset..self.offset + self.length]
    }
}

/// The boundary of the block that `offset` is in, and how far in.
fn block_of(offset: u64) -> (u64, usize) {
    let within = offset % BLOCK_BYTES as u64;
    (offset - within, usize::try_from(within).expect("a block fits in memory"))
}

impl StoredFile for DirectFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (start, skipped) = block_of(offset);
        let mut blocks = Blocks::zeroed((skipped + buffer.len()).next_multiple_of(BLOCK_BYTES));
        let there = self.read_blocks(blocks.bytes(), start)?.saturating_sub(skipped).min(buffer.len());
        buffer[..there].copy_from_slice(&blocks.bytes()[skipped..skipped + there]);
        Ok(there)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut written = self.written.lock();
        let (start, skipped) = block_of(offset);
        let end = offset + bytes.len() as u64;
        let mut blocks = Blocks::zeroed((skipped + bytes.len()).next_multiple_of(BLOCK_BYTES));
        let length = blocks.length;
        let blocks = blocks.bytes();
        // What the first and the last block have beside these bytes.
        match &written.last {
            Some((at, block)) if *at == start => blocks[..BLOCK_BYTES].copy_from_slice(block),
            _ if skipped > 0 && start < written.end => {
                self.read_blocks(&mut blocks[..BLOCK_BYTES], start)?;
            }
            _ => {}
        }
        let (last, _) = block_of(end - 1);
        if last > start && end < written.end {
            self.read_blocks(&mut blocks[length - BLOCK_BYTES..], last)?;
        }
        blocks[skipped..skipped + bytes.len()].copy_from_slice(bytes);
        written.last = None;
        self.file.write_all_at(blocks, start)?;
        written.end = written.end.max(end);
        if start + length as u64 > written.length {
            written.length = written.length.max(end);
            self.file.set_len(written.length)?;
        }
        written.last = Some((last, blocks[length - BLOCK_BYTES..].into()));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.written.lock().length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        written.last = None;
        self.file.set_len(length)?;
        (written.length, written.end) = (length, written.end.min(length));
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        self.file.allocate(offset, length)?;
        written.length = self.file.length()?;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write { offset: u64, bytes: Vec<u8> },
        SetLength(u64),
        Allocate { offset: u64, length: u64 },
        Read { offset: u64, length: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = 0..20_000_u64;
        prop_oneof![
            4 => (offset.clone(), prop::collection::vec(any::<u8>(), 1..9_000))
                .prop_map(|(offset, bytes)| Step::Write { offset, bytes }),
            1 => offset.clone().prop_map(Step::SetLength),
            1 => (offset.clone(), 1..20_000_u64).prop_map(|(offset, length)| Step::Allocate { offset, length }),
            2 => (offset, 0..20_000_usize).prop_map(|(offset, length)| Step::Read { offset, length }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_direct_file_is_a_file(steps in prop::collection::vec(step(), 1..24)) {
            let directory = tempfile::tempdir().unwrap();
            let usual = directory.path().join("usual");
            let usual = File::options().read(true).write(true).create_new(true).open(usual).unwrap();
            // A file system that wants its cache has nothing to test.
            let Some(direct) = DirectFile::create_new(&directory.path().join("direct")).unwrap() else { return Ok(()) };
            let files: [&dyn StoredFile; 2] = [&usual, &direct];
            for step in &steps {
                let [left, right] = files.map(|file| match step {
                    Step::Write { offset, bytes } => file.write_at(bytes, *offset).map(|()| Vec::new()).unwrap(),
                    Step::SetLength(length) => file.set_length(*length).map(|()| Vec::new()).unwrap(),
                    Step::Allocate { offset, length } => {
                        file.allocate(*offset, *length).map(|()| Vec::new()).unwrap()
                    }
                    Step::Read { offset, length } => {
                        let mut buffer = vec![0; *length];
                        let read = file.read_at(&mut buffer, *offset).unwrap();
                        buffer.truncate(read);
                        buffer
                    }
                });
                prop_assert_eq!(left, right);
                prop_assert_eq!(usual.length().unwrap(), direct.length().unwrap());
            }
            direct.sync().unwrap();
            let [left, right] = ["usual", "direct"].map(|name| std::fs::read(directory.path().join(name)).unwrap());
            prop_assert!(left == right, "the files differ");
        }
    }
}
