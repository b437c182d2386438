//! Runs Lua scripts for Argo CD in the environment that Argo CD gives them.

use anyhow::{Result, anyhow};
use mlua::{Lua, LuaOptions, StdLib, Table};
use serde_json::{Map, Value};

/// Runs a script with the object in the global variable `obj`, as Argo CD does: with the libraries
/// `table` and `package`, and with `time` and `date` of the module `os`. Returns its result.
///
/// # Errors
/// Returns an error if the script fails, or if its result is not JSON.
pub fn run(script: &str, object: &Value) -> Result<Value> {
    let execute = || -> mlua::Result<Value> {
        let libraries = StdLib::TABLE | StdLib::PACKAGE | StdLib::OS;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        lua.load(
            "local safe = { time = os.time, date = os.date }
             os, package.loaded.os = nil, nil
             package.preload.os = function() return safe end",
        )
        .exec()?;
        let object = to_lua(&lua, object)?;
        lua.globals().set("obj", object)?;
        from_lua(lua.load(script).eval()?)
    };
    execute().map_err(|error| anyhow!("{error}"))
}

fn to_lua(lua: &Lua, value: &Value) -> mlua::Result<mlua::Value> {
    Ok(match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(value) => mlua::Value::Boolean(*value),
        Value::Number(value) => mlua::Value::Number(value.as_f64().unwrap_or_default()),
        Value::String(value) => mlua::Value::String(lua.create_string(value)?),
        Value::Array(values) => {
            let table = lua.create_table()?;
            for value in values {
                table.push(to_lua(lua, value)?)?;
            }
            mlua::Value::Table(table)
        }
        Value::Object(fields) => {
            let table = lua.create_table()?;
            for (key, value) in fields {
                table.set(key.as_str(), to_lua(lua, value)?)?;
            }
            mlua::Value::Table(table)
        }
    })
}

fn from_lua(value: mlua::Value) -> mlua::Result<Value> {
    let fields = |table: Table| -> mlua::Result<Value> {
        let mut fields = Map::new();
        for pair in table.pairs::<String, mlua::Value>() {
            let (key, value) = pair?;
            fields.insert(key, from_lua(value)?);
        }
        Ok(fields.into())
    };
    match value {
        mlua::Value::Nil => Ok(Value::Null),
        mlua::Value::Boolean(value) => Ok(value.into()),
        mlua::Value::Integer(value) => Ok(value.into()),
        mlua::Value::Number(value) => Ok(value.into()),
        mlua::Value::String(text) => Ok(text.to_str()?.to_owned().into()),
        mlua::Value::Table(table) if table.raw_len() > 0 => {
            let values = table.sequence_values::<mlua::Value>();
            values.map(|value| from_lua(value?)).collect()
        }
        mlua::Value::Table(table) => fields(table),
        other => Err(mlua::Error::runtime(format!("{other:?} is not JSON"))),
    }
}
