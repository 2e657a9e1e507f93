//! A store moves between engines.

use super::{InDatabase, Place, in_folder, in_log, in_memory};
use crate::store::moving::move_all;
use crate::store::{Key, Part, Store, Value, check, schema};

/// What is hard on one engine or another: an empty value, a long one, keys that are no text.
async fn fill(store: &Store) {
    let mut part = Part::default();
    schema::put(&mut part);
    part.put(Key::from_static(b"P"), Value::new());
    part.put(Key::from_static(b"P\0\xff"), vec![7; 3 << 20].into());
    part.put(Key::from_static(b"Z\xff\xff"), Value::from_static(b"\0"));
    for number in 0_u32..3000 {
        let key = [b"Q", number.to_be_bytes().as_slice()].concat();
        part.put(key.into(), vec![1; 50].into());
    }
    store.commit(part).await.unwrap();
}

/// Goal: a store may move from any engine to any other and stays what it is. Method: from one to the next, back to the
/// first kind at the end.
#[tokio::test]
async fn a_store_moves_through_all_engines() {
    let places: Vec<Box<dyn Place>> = vec![
        Box::new(in_memory()),
        Box::new(in_folder()),
        Box::new(in_log()),
        Box::new(InDatabase::new()),
    ];
    #[cfg(feature = "sled")]
    let places = {
        let mut places = places;
        places.push(Box::new(super::in_sled()));
        places
    };
    let mut source = Store::new(in_memory().open().await.unwrap()).unwrap();
    fill(&source).await;
    let before = check::check(&source).await.unwrap();
    for place in &places {
        let target = Store::new(place.open().await.unwrap()).unwrap();
        let moved = move_all(&source, &target, |_, _, _| ()).await.unwrap();
        assert_eq!(moved, before.sum);
        assert_eq!(check::check(&target).await.unwrap(), before);
        source = target;
    }
}
