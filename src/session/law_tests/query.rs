//! [`Grammar`]: random queries that the engine can keep up, over tables and over views.

use std::collections::BTreeSet;

use super::expression::{aggregate, column, expression, literal, predicate};
use super::schema::{Column, Relation, Type};
use super::tape::Tape;

/// Rows of a query grow at most as the tables' rows to this power.
const RANK_MAX: usize = 3;

/// Tables that a query names at most, its views' tables with them.
const LEAVES_MAX: usize = 8;

const SCALARS: [Type; 6] = [Type::Int, Type::Text, Type::Num, Type::Int, Type::Bool, Type::Dbl];

/// A query in which relations stand as `{name}`.
#[derive(Debug, Clone)]
pub(super) struct Query {
    text: String,
    /// What later queries see if it becomes a view.
    pub(super) relation: Relation,
}

impl Query {
    /// As it is told to the engine: over tables and views.
    pub(super) fn text(&self) -> String {
        self.text.replace(['{', '}'], "")
    }
}

/// A query's parts, before it has a name.
struct Body {
    text: String,
    columns: Vec<Column>,
    rank: usize,
}

/// What stands in FROM.
struct Input {
    text: String,
    scope: Vec<Column>,
    rank: usize,
}

/// Draws one query.
#[derive(Debug)]
pub(super) struct Grammar<'a> {
    tape: Tape<'a>,
    relations: &'a [Relation],
    reads: BTreeSet<String>,
    leaves: usize,
    aliases: usize,
    nested: usize,
}

impl<'a> Grammar<'a> {
    /// A grammar over these relations, led by these numbers.
    pub(super) fn new(numbers: &'a [u16], relations: &'a [Relation]) -> Self {
        let tape = Tape::new(numbers);
        Self { tape, relations, reads: BTreeSet::new(), leaves: 0, aliases: 0, nested: 0 }
    }

    /// The query of a view of that name.
    pub(super) fn query(mut self, name: &str) -> Query {
        let body = self.body(RANK_MAX);
        let mut batch = body.text.clone();
        for relation in self.relations {
            batch = batch.replace(&format!("{{{}}}", relation.name), &relation.inlined());
        }
        let relation = Relation {
            name: name.to_string(),
            batch,
            columns: body.columns,
            rank: body.rank,
            leaves: self.leaves,
            reads: self.reads,
        };
        Query { text: body.text, relation }
    }

    fn body(&mut self, room: usize) -> Body {
        match self.tape.pick(20) {
            0..=4 => self.projection(room),
            5..=9 => self.grouped(room),
            10 | 11 => self.whole(room),
            12..=14 => self.distinct(room),
            15..=17 => self.top(room),
            _ => self.union(room),
        }
    }

    /// `expr AS c1, expr AS c2 …` of these types.
    fn items(&mut self, scope: &[Column], types: &[Type]) -> (String, Vec<Column>) {
        let exprs = types.iter().map(|ty| (expression(&mut self.tape, scope, *ty, 2), *ty));
        named(exprs.collect())
    }

    fn types(&mut self) -> Vec<Type> {
        let count = 1 + self.tape.pick(4);
        (0..count).map(|_| self.tape.of(&SCALARS)).collect()
    }

    fn projection(&mut self, room: usize) -> Body {
        let types = self.types();
        self.selected("", &types, room)
    }

    fn distinct(&mut self, room: usize) -> Body {
        let types = self.types();
        self.selected("DISTINCT ", &types, room)
    }

    fn selected(&mut self, word: &str, types: &[Type], room: usize) -> Body {
        let Input { text, scope, rank } = self.from(room);
        let (items, columns) = self.items(&scope, types);
        let condition = self.condition(&scope);
        Body { text: format!("SELECT {word}{items} FROM {text}{condition}"), columns, rank }
    }

    fn grouped(&mut self, room: usize) -> Body {
        let Input { text, scope, .. } = self.from(room);
        let mut exprs = Vec::new();
        for _ in 0..=self.tape.pick(2) {
            let ty = self.tape.of(&SCALARS);
            exprs.push((expression(&mut self.tape, &scope, ty, 1), ty));
        }
        let ordinals: Vec<String> = (1..=exprs.len()).map(|number| number.to_string()).collect();
        for _ in 0..=self.tape.pick(3) {
            exprs.push(aggregate(&mut self.tape, &scope));
        }
        let (items, columns) = named(exprs);
        let condition = self.condition(&scope);
        let having = self.having(&scope, 30);
        let groups = ordinals.join(", ");
        let text = format!("SELECT {items} FROM {text}{condition} GROUP BY {groups}{having}");
        Body { text, columns, rank: 1 }
    }

    /// Aggregates without groups.
    fn whole(&mut self, room: usize) -> Body {
        let Input { text, scope, .. } = self.from(room);
        let count = 1 + self.tape.pick(3);
        let exprs = (0..count).map(|_| aggregate(&mut self.tape, &scope)).collect();
        let (items, columns) = named(exprs);
        let condition = self.condition(&scope);
        let having = self.having(&scope, 15);
        Body { text: format!("SELECT {items} FROM {text}{condition}{having}"), columns, rank: 1 }
    }

    fn having(&mut self, scope: &[Column], percent: usize) -> String {
        if !self.tape.chance(percent) {
            return String::new();
        }
        let (call, ty) = aggregate(&mut self.tape, scope);
        let sign = self.tape.of(&[">", "<=", "=", "<>"]);
        format!(" HAVING {call} {sign} {}", literal(&mut self.tape, ty))
    }

    /// The first rows by all columns: rows that tie are equal.
    fn top(&mut self, room: usize) -> Body {
        let types = self.types();
        let mut body = self.selected("", &types, room);
        let mut order: Vec<usize> = (1..=types.len()).collect();
        let first = self.tape.pick(types.len());
        order.rotate_left(first);
        let keys = order.iter().map(|ordinal| {
            let way = self.tape.of(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
            format!("{ordinal}{way}")
        });
        let keys: Vec<String> = keys.collect();
        let limit = 1 + self.tape.pick(6);
        body.text = format!("{} ORDER BY {} LIMIT {limit}", body.text, keys.join(", "));
        if self.tape.chance(30) {
            body.text += &format!(" OFFSET {}", 1 + self.tape.pick(3));
        }
        Body { rank: 1, ..body }
    }

    fn union(&mut self, room: usize) -> Body {
        let types = self.types();
        let mut body = self.selected("", &types, room);
        for _ in 0..=self.tape.pick(2) {
            let word = if self.tape.chance(20) { "UNION" } else { "UNION ALL" };
            let other = self.selected("", &types, room);
            body.text = format!("{} {word} {}", body.text, other.text);
            body.rank = body.rank.max(other.rank);
        }
        body
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("x{}", self.aliases)
    }

    /// One relation or subquery under an alias.
    fn source(&mut self, room: usize) -> Input {
        if self.nested < 2 && self.tape.chance(12) {
            self.nested += 1;
            let body = self.body(room);
            let alias = self.alias();
            let scope = qualified(&alias, &body.columns);
            return Input { text: format!("({}) AS {alias}", body.text), scope, rank: body.rank };
        }
        let (relation, alias) = self.relation(room);
        let scope = qualified(&alias, &relation.columns);
        Input { text: format!("{{{}}} AS {alias}", relation.name), scope, rank: relation.rank }
    }

    fn relation(&mut self, room: usize) -> (&'a Relation, String) {
        let left = LEAVES_MAX.saturating_sub(self.leaves).max(1);
        let fitting: Vec<&'a Relation> = self
            .relations
            .iter()
            .filter(|relation| relation.rank <= room && relation.leaves <= left)
            .collect();
        let relation = self.tape.of(&fitting);
        self.leaves += relation.leaves;
        self.reads.insert(relation.name.clone());
        (relation, self.alias())
    }

    fn from(&mut self, room: usize) -> Input {
        let mut all = self.source(room);
        for _ in 0..self.tape.of(&[0, 0, 0, 1, 1, 1, 2]) {
            let Some(left) = room.checked_sub(all.rank).filter(|left| *left > 0) else { break };
            let other = self.source(left);
            let kind = self.tape.of(&["JOIN", "LEFT JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN"]);
            let on = self.on(&all.scope, &other.scope);
            all.text = format!("{} {kind} {} ON {on}", all.text, other.text);
            all.scope.extend(other.scope);
            all.rank += other.rank;
        }
        all
    }

    /// Mostly an equality or two, and sometimes a further condition.
    fn on(&mut self, left: &[Column], right: &[Column]) -> String {
        let mut terms = Vec::new();
        for _ in 0..self.tape.of(&[1, 1, 1, 1, 1, 2, 2]) {
            let ty = self.tape.of(&[Type::Int, Type::Int, Type::Text, Type::Num, Type::Bool]);
            let one = column(&mut self.tape, left, ty);
            let other = column(&mut self.tape, right, ty);
            terms.extend(one.zip(other).map(|(one, other)| format!("{one} = {other}")));
        }
        if terms.is_empty() {
            let one = expression(&mut self.tape, left, Type::Int, 1);
            terms.push(format!("{one} = {}", expression(&mut self.tape, right, Type::Int, 1)));
        }
        if self.tape.chance(35) {
            let both = [left, right].concat();
            terms.push(format!("({})", predicate(&mut self.tape, &both, 1)));
        }
        terms.join(" AND ")
    }

    /// WHERE, or nothing.
    fn condition(&mut self, scope: &[Column]) -> String {
        match self.tape.pick(8) {
            0..=2 => String::new(),
            3..=5 => format!(" WHERE {}", predicate(&mut self.tape, scope, 2)),
            6 => format!(" WHERE {}", self.subquery(scope)),
            _ => {
                let first = predicate(&mut self.tape, scope, 1);
                format!(" WHERE ({first}) AND {}", self.subquery(scope))
            }
        }
    }

    /// A condition with a subquery.
    fn subquery(&mut self, scope: &[Column]) -> String {
        let (relation, alias) = self.relation(RANK_MAX);
        let inner = qualified(&alias, &relation.columns);
        let from = format!("{{{}}} AS {alias}", relation.name);
        let shape = self.tape.pick(6);
        let own = match self.tape.chance(50) {
            true => Some(predicate(&mut self.tape, &inner, 1)),
            false => None,
        };
        let ty = self.tape.of(&[Type::Int, Type::Int, Type::Text]);
        let outside = expression(&mut self.tape, scope, ty, 1);
        let inside = match column(&mut self.tape, &inner, ty) {
            Some(column) => column,
            None => literal(&mut self.tape, ty),
        };
        let filter = own.as_ref().map_or_else(String::new, |own| format!(" WHERE {own}"));
        let correlated = match (column(&mut self.tape, scope, ty), own) {
            (Some(outer), Some(own)) => format!(" WHERE {inside} = {outer} AND ({own})"),
            (Some(outer), None) => format!(" WHERE {inside} = {outer}"),
            (None, _) => filter.clone(),
        };
        match shape {
            0 | 1 => format!("{outside} IN (SELECT {inside} FROM {from}{filter})"),
            2 => format!("EXISTS (SELECT 1 FROM {from}{correlated})"),
            3 => format!("NOT EXISTS (SELECT 1 FROM {from}{correlated})"),
            4 => format!("EXISTS (SELECT 1 FROM {from}{filter})"),
            _ => {
                let call = self.tape.of(&["max", "min"]);
                format!("{outside} >= (SELECT {call}({inside}) FROM {from}{filter})")
            }
        }
    }
}

/// Gives the expressions the names c1, c2 and so on.
fn named(exprs: Vec<(String, Type)>) -> (String, Vec<Column>) {
    let (mut items, mut columns) = (Vec::new(), Vec::new());
    for (number, (text, ty)) in exprs.into_iter().enumerate() {
        let name = format!("c{}", number + 1);
        items.push(format!("{text} AS {name}"));
        columns.push(Column { name, ty });
    }
    (items.join(", "), columns)
}

fn qualified(alias: &str, columns: &[Column]) -> Vec<Column> {
    let column =
        |column: &Column| Column { name: format!("{alias}.{}", column.name), ty: column.ty };
    columns.iter().map(column).collect()
}
