//! What the logs do not show although contacts needed it to be judged: from the engine to the health of
//! the sources, at every tick.

use super::Pipeline;
use crate::signals::health::Lacking;

impl Pipeline {
    /// Says it, also where nothing is lacking any more.
    pub(super) fn say_lacking(&self) {
        let mut by_source = vec![Vec::new(); self.sources.len()];
        for (source, node, lack) in self.engine.lacking() {
            if let Some(lacking) = by_source.get_mut(usize::from(source)) {
                lacking.push(Lacking {
                    node: node.map(ToOwned::to_owned),
                    what: lack.to_string(),
                });
            }
        }
        for (source, lacking) in by_source.into_iter().enumerate() {
            self.health.lacks(source, lacking);
        }
    }
}
