//! Record: evidence on its way from one boot to another, one experiment a line; pure.

use serde::{Deserialize, Serialize};

use crate::boot::Boot;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::strategy::Strategy;

/// What one experiment saw on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Where it was seen.
    #[serde(default)]
    pub boot: Boot,
    /// The experiment.
    pub experiment: String,
    /// The node; `None` for experiments that are not about the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Strategy>,
    /// What was seen.
    pub evidence: Evidence,
}

/// All that earlier boots saw.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<Record>);

impl Record {
    /// The record as a line.
    ///
    /// # Errors
    ///
    /// Never in practice: all keys are text.
    pub fn to_line(&self) -> Result<String> {
        let text = serde_json::to_string(self).map_err(|error| Error::Garbled {
            what: format!("evidence of {}", self.experiment),
            detail: error.to_string(),
        })?;
        Ok(text + "\n")
    }
}

impl Records {
    /// Reads lines.
    ///
    /// # Errors
    ///
    /// Names the line that is not a record.
    pub fn parse(text: &str) -> Result<Self> {
        let line = |(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| Error::Garbled {
                what: format!("line {} of the recorded evidence", index + 1),
                detail: error.to_string(),
            })
        };
        text.lines()
            .enumerate()
            .map(line)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// What this experiment saw there.
    #[must_use]
    pub fn find(&self, boot: Boot, experiment: &str, node: Option<Strategy>) -> Option<&Evidence> {
        let it = |record: &&Record| {
            record.boot == boot && record.experiment == experiment && record.node == node
        };
        self.0.iter().find(it).map(|record| &record.evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_way() {
        let mut evidence = Evidence::new();
        evidence.note("store.cost", 7);
        let record = |node, boot| Record {
            boot,
            experiment: "look".to_owned(),
            node,
            evidence: evidence.clone(),
        };
        let there = record(Some(Strategy::Pfn), Boot::Counting);
        let nowhere = record(None, Boot::SmallMemory);
        let lines = there.to_line().unwrap() + &nowhere.to_line().unwrap();
        let records = Records::parse(&lines).unwrap();
        let find = |boot, node| records.find(boot, "look", node);
        assert_eq!(find(Boot::Counting, Some(Strategy::Pfn)), Some(&evidence));
        assert_eq!(find(Boot::SmallMemory, None), Some(&evidence));
        assert_eq!(find(Boot::Counting, None), None);
    }

    #[test]
    fn a_line_cut_off_is_named() {
        let error = Records::parse("{\"experiment\":\"lo").unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("line 1 of the recorded evidence"),
            "{error}"
        );
    }
}
