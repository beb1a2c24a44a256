//! The documentation page on what each log cannot show, as Markdown, generated from `capabilities`.
//! `make docs` writes it; a test compares it with `docs/blind-spots.md`.

use std::fmt::{self, Write};

use super::capabilities::required_parts;
use super::{Capability, Format, SourceCapabilities};
use crate::model::Signature;

const HEAD: &str = "\
# What a log cannot show

Made by `make docs` from what the decoders declare (`src/signals/decode/capabilities.rs`); do not edit.

A detector can judge only what a log contains. Missing information is evidence neither for nor against a pod: it is a
blind spot, and a quiet log with blind spots proves less than a quiet log without. `yellowjack replay` lists the blind
spots of the log that it reads.
";

/// The whole page.
#[must_use]
pub fn blind_spots_page() -> String {
    let mut page = HEAD.to_owned();
    // Writing into a string cannot fail.
    let _ = write_body(&mut page);
    page
}

fn write_body(page: &mut String) -> fmt::Result {
    page.push_str("\n## At a glance\n\n| part |");
    for format in Format::ALL {
        write!(page, " {} |", format.name())?;
    }
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(Format::ALL.len()));
    page.push('\n');
    for (index, part) in SourceCapabilities::PART_NAMES.into_iter().enumerate() {
        write!(page, "| {part} |")?;
        for format in Format::ALL {
            let shown = format.capabilities().parts().get(index).copied();
            let word = shown.map_or("", |shown| match shown {
                Capability::Always => "yes",
                Capability::When(_) => "if",
                Capability::Never(_) => "**no**",
            });
            write!(page, " {word} |")?;
        }
        page.push('\n');
    }
    page.push_str("\nThe parts:\n\n");
    for (name, meaning) in SourceCapabilities::PART_NAMES
        .into_iter()
        .zip(SourceCapabilities::PART_MEANINGS)
    {
        writeln!(page, "- *{name}*: {meaning}")?;
    }
    page.push_str("\n## Conditions and reasons\n");
    for format in Format::ALL {
        write!(page, "\n### {}\n\n", format.name())?;
        for (name, shown) in SourceCapabilities::PART_NAMES
            .into_iter()
            .zip(format.capabilities().parts())
        {
            match shown {
                Capability::Always => writeln!(page, "- {name}: always")?,
                Capability::When(condition) => writeln!(page, "- {name}: if {condition}")?,
                Capability::Never(reason) => writeln!(page, "- {name}: **never**, {reason}")?,
            }
        }
    }
    page.push_str("\n## What that means for a signature\n");
    for signature in Signature::ALL {
        write_signature(page, signature)?;
    }
    Ok(())
}

fn write_signature(page: &mut String, signature: Signature) -> fmt::Result {
    write!(page, "\n### {}\n\nLooks at:\n\n", signature.name())?;
    for part in required_parts(signature) {
        writeln!(page, "- {}: {}", part.name, part.why)?;
    }
    page.push('\n');
    for format in Format::ALL {
        let never: Vec<_> = format
            .cannot_show(signature)
            .map(|(name, reason)| format!("no {name} ({reason})"))
            .collect();
        let conditional: Vec<_> = required_parts(signature)
            .iter()
            .filter(|part| is_conditional(format, part.name))
            .map(|part| part.name)
            .collect();
        write!(page, "- {}: ", format.name())?;
        match (never.is_empty(), conditional.is_empty()) {
            (true, true) => writeln!(page, "shows all of this")?,
            (true, false) => writeln!(page, "{} under conditions", conditional.join(", "))?,
            (false, true) => writeln!(page, "{}", never.join("; "))?,
            (false, false) => {
                let (never, conditional) = (never.join("; "), conditional.join(", "));
                writeln!(page, "{never}; {conditional} under conditions")?;
            }
        }
    }
    Ok(())
}

fn is_conditional(format: Format, part: &str) -> bool {
    let mut parts = SourceCapabilities::PART_NAMES
        .into_iter()
        .zip(format.capabilities().parts());
    parts.any(|(name, shown)| name == part && matches!(shown, Capability::When(_)))
}
