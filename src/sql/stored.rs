//! [`enter_stored`]: a CREATE statement that was applied before, bound by the program that starts.
//!
//! **Invariant:** as binding itself, a function of the catalog and the text. A statement that this
//! program cannot bind makes a relation as well, which has failed and can be dropped by its name.

use std::sync::Arc;

use arrow::datatypes::Schema;

use super::binder::bind_in_forms;
use super::scope::NoExtraTables;
use super::{Bound, parse};
use crate::catalog::{Catalog, ChangelogMode, Definition, Relation, RelationId, UnboundDef};
use crate::error::{Error, Result};
use crate::plan::PlannedRelation;
use crate::types::TypeForms;

/// Enters what a stored statement makes into a catalog; its first relation has `id`, and its types
/// have the forms that they had when it was made.
pub fn enter_stored(
    catalog: &mut Catalog,
    id: RelationId,
    text: &str,
    forms: TypeForms,
) -> Vec<PlannedRelation> {
    let mut entered = catalog.clone();
    entered.set_next_id(id);
    match create(&mut entered, text, forms) {
        Ok(made) => {
            *catalog = entered;
            made
        }
        Err(error) => {
            let (noun, name) = made(text);
            let name = name.unwrap_or_else(|| format!("relation {id}"));
            let relation = Relation {
                id,
                name,
                sql: text.to_string(),
                forms,
                definition: Arc::new(Definition::Unbound(UnboundDef { noun, error })),
                schema: Arc::new(Schema::empty()),
                upsert_key: None,
                mode: ChangelogMode::AppendOnly,
                depends_on: Vec::new(),
            };
            vec![PlannedRelation { relation: catalog.insert(relation), fragment: None }]
        }
    }
}

fn create(catalog: &mut Catalog, text: &str, forms: TypeForms) -> Result<Vec<PlannedRelation>> {
    let mut made = Vec::new();
    for statement in parse(text)? {
        let bound = bind_in_forms(catalog, &statement, &NoExtraTables, forms)?;
        let Bound::Create(new) = bound else {
            return Err(Error::internal("a stored statement is not CREATE"));
        };
        made.extend(new.enter(catalog, &statement.text)?);
    }
    Ok(made)
}

/// What a CREATE statement makes and under which name, by its first words alone.
fn made(text: &str) -> (&'static str, Option<String>) {
    let mut words = Words { rest: text };
    let mut noun = "view";
    for word in words.by_ref().skip(1) {
        noun = match word.to_lowercase().as_str() {
            "or" | "replace" | "materialized" => {
                if word.eq_ignore_ascii_case("materialized") {
                    noun = "materialized view";
                }
                continue;
            }
            "table" => "table",
            "source" => "source",
            "sink" => "sink",
            "pipeline" => "pipeline",
            "catalog" => "catalog",
            _ => noun,
        };
        break;
    }
    let is_option = |word: &&str| {
        !["if", "not", "exists"].iter().any(|option| word.eq_ignore_ascii_case(option))
    };
    let name = words.find(is_option).map(|word| match word.strip_prefix('"') {
        Some(quoted) => quoted.trim_end_matches('"').replace("\"\"", "\""),
        None => word.to_lowercase(),
    });
    (noun, name)
}

/// Words and quoted names of a text.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = match text.strip_prefix('"') {
            Some(quoted) => {
                let mut end = quoted.find('"')?;
                while quoted[end + 1..].starts_with('"') {
                    end += 2 + quoted[end + 2..].find('"')?;
                }
                end + 2
            }
            None => {
                let is_end = |letter: char| letter.is_whitespace() || "(;,".contains(letter);
                text.find(is_end).unwrap_or(text.len())
            }
        };
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::types::UUID;

    #[test]
    fn types_keep_the_forms_that_they_had() {
        let text = "CREATE TABLE t (id UUID PRIMARY KEY, doc JSONB)";
        for (forms, id, doc) in [
            (TypeForms::Text, DataType::Utf8, DataType::Utf8),
            (TypeForms::Own, UUID, DataType::LargeBinary),
        ] {
            let mut catalog = Catalog::default();
            enter_stored(&mut catalog, RelationId(7), text, forms);
            let table = catalog.get("t").unwrap();
            let types = table.schema.fields().iter().map(|field| field.data_type());
            assert!(types.eq([&id, &doc]), "{forms:?}");
            assert_eq!(table.forms, forms);
        }
    }

    #[test]
    fn a_statement_that_cannot_be_bound_makes_a_failed_relation_of_its_name() {
        for (text, noun, name) in [
            ("CREATE MATERIALIZED VIEW Best AS SELECT a FROM gone", "materialized view", "best"),
            ("create table if not exists \"A \"\"b\" (k NOTYPE)", "table", "A \"b"),
            ("CREATE SINK s FROM gone WITH (connector = 'x')", "sink", "s"),
            ("CREATE VIEW v(a) AS SELECT nothing()", "view", "v"),
            ("CREATE PIPELINE p SCHEDULED 'x'", "pipeline", "p"),
        ] {
            let mut catalog = Catalog::default();
            let made = enter_stored(&mut catalog, RelationId(7), text, TypeForms::Own);
            let relation = catalog.get(name).unwrap_or_else(|| panic!("{text}: {made:?}"));
            assert_eq!((relation.id, relation.sql.as_str()), (RelationId(7), text));
            let Definition::Unbound(unbound) = &*relation.definition else { panic!("{text}") };
            assert_eq!(unbound.noun, noun, "{text}");
            assert_eq!(catalog.next_id(), RelationId(8));
        }
    }
}
