//! An estimate of the fuel of expressions that is known before they are evaluated.

use crate::program::{ItemName, Node, Operation, Operator, TextFunction, UnaryFunction, ZoneName};

impl Operation {
    /// Returns the estimate for one evaluation, without the operands.
    pub fn cost(&self) -> u64 {
        use Operation as O;
        match self {
            O::Constant(_) | O::Item | O::Group | O::Now | O::Not(_) | O::Negate(_) => 80,
            O::Conditional(_) => 80,
            O::Chain(_, nodes) => 80 + 80 * nodes.len() as u64,
            O::GroupField(_) | O::HasGroupField(_) | O::FindItem(ItemName::Known(..)) => 120,
            O::ItemField(..) | O::HasItemField(..) => 200,
            O::Key(..) | O::HasKey(..) => 600,
            O::Index(_) => 1000,
            O::List(nodes) => 300 + 200 * nodes.len() as u64,
            O::Binary(Operator::Add, _) => 700,
            O::Binary(Operator::In, nodes) => 300 + 400 * elements(&nodes[1]),
            O::Binary(_, nodes) => 300 + 400 * elements(&nodes[0]),
            O::Unary(function, _) => unary(*function),
            O::ItemRuns(_) | O::GroupRuns(_) => 1000,
            O::Calendar(_, _, ZoneName::Known(_)) => 2000,
            O::Text(TextFunction::Contains, _) => 7000,
            O::Text(TextFunction::EndsWith | TextFunction::StartsWith, _) => 1200,
            O::FindItem(ItemName::Evaluated(_)) => 2500,
            O::Calendar(_, _, ZoneName::Evaluated(_)) => 10_000,
        }
    }
}

/// Returns the number of elements of a list in the expression.
fn elements(node: &Node) -> u64 {
    match &node.operation {
        Operation::List(nodes) => nodes.iter().map(|node| 1 + elements(node)).sum(),
        _ => 0,
    }
}

fn unary(function: UnaryFunction) -> u64 {
    use UnaryFunction as F;
    match function {
        F::Hours | F::Minutes | F::Seconds => 120,
        F::Size => 1000,
        F::ToInt | F::ToDouble => 1500,
        F::ToDuration | F::ToTimestamp => 3000,
        F::ToString => 4500,
    }
}
