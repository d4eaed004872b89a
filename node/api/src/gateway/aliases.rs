//! The aliases that a client has used on its stream. Pure.
//!
//! An alias is attached once, before the first reading under it. So a reading that no shard knew on one connection is known to
//! none on the next one either, and is counted as rejected exactly once.

use super::SendError;
use crate::v1::{Attachment, Reading};

/// Highest alias that nodes take.
pub(super) const ALIAS_MAX: u32 = 1_048_575;

/// A set of aliases, one bit each.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    words: Vec<u64>,
}

impl Aliases {
    /// Takes the aliases of `devices`, all or none.
    pub(super) fn claim(&mut self, devices: &[Attachment]) -> Result<(), SendError> {
        if let Some(&Attachment { alias, .. }) = devices.iter().find(|device| device.alias > ALIAS_MAX) {
            return Err(SendError::AliasTooLarge { alias, alias_max: ALIAS_MAX });
        }
        for (count, &Attachment { alias, .. }) in devices.iter().enumerate() {
            if self.has(alias) {
                for claimed in &devices[..count] {
                    self.words[word(claimed.alias)] &= !bit(claimed.alias);
                }
                return Err(SendError::AliasInUse { alias });
            }
            if word(alias) >= self.words.len() {
                self.words.resize(word(alias) + 1, 0);
            }
            self.words[word(alias)] |= bit(alias);
        }
        Ok(())
    }

    /// Refuses readings under aliases that were never attached.
    pub(super) fn check(&self, readings: &[Reading]) -> Result<(), SendError> {
        match readings.iter().find(|reading| !self.has(reading.alias)) {
            Some(&Reading { alias, .. }) => Err(SendError::UnknownAlias { alias }),
            None => Ok(()),
        }
    }

    fn has(&self, alias: u32) -> bool {
        self.words.get(word(alias)).is_some_and(|bits| bits & bit(alias) != 0)
    }
}

fn word(alias: u32) -> usize {
    (alias / 64) as usize
}

fn bit(alias: u32) -> u64 {
    1 << (alias % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachments(aliases: &[u32]) -> Vec<Attachment> {
        aliases.iter().map(|&alias| Attachment { alias, ..Attachment::default() }).collect()
    }

    #[test]
    fn an_alias_is_attached_once() {
        let mut aliases = Aliases::default();
        aliases.claim(&attachments(&[0, 64, 700])).expect("all are free");
        assert_eq!(aliases.claim(&attachments(&[1, 64])), Err(SendError::AliasInUse { alias: 64 }));
        assert_eq!(aliases.claim(&attachments(&[2, 2])), Err(SendError::AliasInUse { alias: 2 }));
        aliases.claim(&attachments(&[1, 2])).expect("what was refused together is free");
    }

    #[test]
    fn readings_need_an_attachment() {
        let mut aliases = Aliases::default();
        aliases.claim(&attachments(&[3])).expect("it is free");
        let reading = |alias| Reading { alias, ..Reading::default() };
        assert_eq!(aliases.check(&[reading(3)]), Ok(()));
        assert_eq!(aliases.check(&[reading(3), reading(u32::MAX)]), Err(SendError::UnknownAlias { alias: u32::MAX }));
    }

    #[test]
    fn aliases_have_a_bound() {
        let too_large = SendError::AliasTooLarge { alias: ALIAS_MAX + 1, alias_max: ALIAS_MAX };
        assert_eq!(Aliases::default().claim(&attachments(&[ALIAS_MAX, ALIAS_MAX + 1])), Err(too_large));
    }
}
