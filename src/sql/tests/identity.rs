//! The identity of a fragment: what a later version of the program finds its state by.

use super::super::Bound;
use super::support::{bound, shop};
use crate::plan::{FragmentIdentity, FragmentPlan};

fn identity_of(query: &str) -> FragmentIdentity {
    let mut catalog = shop();
    let text = format!("CREATE MATERIALIZED VIEW v AS {query}");
    let Bound::Create(new) = bound(&catalog, &text).unwrap() else { panic!("{text}") };
    let made = new.enter(&mut catalog, &text).unwrap().remove(0);
    made.fragment.unwrap().identity
}

#[test]
fn equal_queries_have_equal_identities() {
    let query = "SELECT customer, sum(amount) AS s FROM orders GROUP BY customer";
    assert_eq!(identity_of(query), identity_of(query));
}

#[test]
fn whatever_changes_a_result_changes_the_identity() {
    let queries = [
        "SELECT id, 1 AS x FROM orders",
        "SELECT id, '1' AS x FROM orders",
        "SELECT id, 1 AS y FROM orders",
        "SELECT id, 2 AS x FROM orders",
        "SELECT customer, sum(amount) AS x FROM orders GROUP BY customer",
        "SELECT customer, sum(amount) AS x FROM orders WHERE id > 1 GROUP BY customer",
        "SELECT customer, sum(amount) AS x FROM orders WHERE id > 2 GROUP BY customer",
        "SELECT customer, max(amount) AS x FROM orders GROUP BY customer",
        "SELECT customer, count(DISTINCT amount) AS x FROM orders GROUP BY customer",
        "SELECT customer, count(amount) AS x FROM orders GROUP BY customer",
        "SELECT a.id FROM orders a JOIN orders b ON a.id = b.customer",
        "SELECT b.id FROM orders a JOIN orders b ON a.id = b.customer",
        "SELECT a.id FROM orders a LEFT JOIN orders b ON a.id = b.customer",
        "SELECT id FROM orders ORDER BY id LIMIT 3",
        "SELECT id FROM orders ORDER BY id LIMIT 4",
        "SELECT id FROM orders ORDER BY id DESC LIMIT 3",
        "SELECT * FROM (VALUES (1), (2)) AS v (x)",
        "SELECT * FROM (VALUES (1), (3)) AS v (x)",
    ];
    for (index, one) in queries.iter().enumerate() {
        for other in &queries[index + 1..] {
            assert_ne!(identity_of(one).plan, identity_of(other).plan, "{one}\n{other}");
        }
    }
}

#[test]
fn operators_keep_their_ids_when_another_part_of_the_plan_changes() {
    let one = identity_of(
        "SELECT g.customer FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) g \
         WHERE n > 1",
    );
    let other = identity_of(
        "SELECT g.customer FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) g \
         WHERE n > 2",
    );
    assert_eq!(one.operators.len(), 1);
    assert_eq!(one.operators, other.operators);
    assert_ne!(one.plan, other.plan);
}

#[test]
fn equal_subtrees_have_ids_of_their_own() {
    let sums = "(SELECT customer, sum(amount) AS s FROM orders GROUP BY customer)";
    let identity =
        identity_of(&format!("SELECT a.s FROM {sums} a JOIN {sums} b ON a.customer = b.customer"));
    let mut ids = identity.operators.clone();
    assert_eq!(ids.len(), 3);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

/// Digests are in the manifests of users: this fails if a change of the program gives stored state
/// another identity, so that every view would be rebuilt at the next start. If that is meant, say
/// so in the changelog and correct the digest here.
#[test]
fn identities_are_the_same_in_every_version() {
    let view = identity_of(
        "SELECT customer, sum(amount) AS s, min(id) AS m FROM orders WHERE status = 'paid' \
         GROUP BY customer",
    );
    let catalog = shop();
    let table = |name| {
        let relation = catalog.get(name).unwrap();
        FragmentPlan::of(relation, None).unwrap().unwrap().identity
    };
    let digests = [view, table("orders"), table("log")].map(|it| it.plan.to_string());
    let expected = [
        "6362fff2-e9c9-51a9-a581-001075c24cdb",
        "8173c688-7b87-5441-82bc-839fa48111f6",
        "49c1c555-6703-508f-845a-a0de036c21fe",
    ];
    assert_eq!(digests, expected);
}
