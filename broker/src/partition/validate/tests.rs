use bytes::BytesMut;
use palisade_protocol::batch::compression::decompress;
use palisade_protocol::batch::{BatchBuilder, stamp};
use palisade_protocol::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::framing::{FirstLook, first_look, single_batch};
use super::*;

const NOW: TimestampMs = TimestampMs::new(1_000_000_000);

fn at(ms: i64) -> TimestampMs {
    TimestampMs::new(NOW.value() + ms)
}

fn place() -> Place<'static> {
    Place {
        topic: "orders",
        index: 3,
    }
}

/// A batch with one record per timestamp, keys `k`.
fn batch(codec: Codec, timestamps: &[TimestampMs]) -> BytesMut {
    let mut builder = BatchBuilder::new(codec);
    for timestamp in timestamps {
        builder
            .add(*timestamp, Some(b"k"), Some(b"value value value"), &[])
            .unwrap();
    }
    builder.build().unwrap()
}

fn keyless(codec: Codec, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for _ in 0..count {
        builder.add(NOW, None, Some(b"v"), &[]).unwrap();
    }
    builder.build().unwrap().freeze()
}

/// Changes header fields and seals the batch again.
fn tampered(mut bytes: BytesMut, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(&bytes).unwrap();
    change(&mut header);
    let head = seal(&header, &bytes[BATCH_HEADER_LEN..]);
    bytes[..BATCH_HEADER_LEN].copy_from_slice(&head);
    bytes.freeze()
}

fn check(bytes: impl Into<Bytes>, rules: &RecordRules) -> Result<BytesMut, Refusal> {
    let mut batch = match validate(bytes.into(), rules, NOW, place())? {
        Judged::Valid(batch) => batch,
        Judged::Unopened(opening) => open(opening)?,
    };
    let (head, section) = batch.pieces();
    Ok(BytesMut::from(&[&head[..], section].concat()[..]))
}

/// Opens in steps as small as there are.
fn open(mut opening: Box<Opening>) -> Result<ValidBatch, Refusal> {
    loop {
        if let Progress::Done(batch) = opening.step(1)? {
            return Ok(batch);
        }
    }
}

fn code(bytes: impl Into<Bytes>, rules: &RecordRules) -> ErrorCode {
    check(bytes, rules).unwrap_err().code
}

fn header(bytes: &[u8]) -> BatchHeader {
    assert!(verify_crc(bytes));
    BatchHeader::parse(bytes).unwrap()
}

#[test]
fn a_good_batch_is_kept_as_it_is() {
    for codec in Codec::ALL {
        let sent = batch(codec, &[NOW, at(5)]);
        let kept = check(sent.clone().freeze(), &RecordRules::default()).unwrap();
        assert_eq!(kept, sent, "{codec:?}");
    }
}

#[test]
fn header_faults_have_their_codes() {
    let rules = RecordRules::default();
    let good = || batch(Codec::None, &[NOW, NOW]);
    let mut moved = good();
    stamp(&mut moved, Offset::new(7), LeaderEpoch::new(0));
    assert_eq!(code(moved.freeze(), &rules), ErrorCode::INVALID_RECORD);
    let mut flipped = good();
    flipped[70] ^= 1;
    assert_eq!(code(flipped.freeze(), &rules), ErrorCode::CORRUPT_MESSAGE);
    let small = RecordRules {
        max_message_bytes: good().len() - 1,
        ..RecordRules::default()
    };
    assert_eq!(code(good().freeze(), &small), ErrorCode::MESSAGE_TOO_LARGE);
    let exact = RecordRules {
        max_message_bytes: good().len(),
        ..RecordRules::default()
    };
    assert!(check(good().freeze(), &exact).is_ok());
    let narrow = RecordRules {
        segment_bytes: good().len() - 1,
        ..RecordRules::default()
    };
    assert_eq!(
        code(good().freeze(), &narrow),
        ErrorCode::RECORD_LIST_TOO_LARGE
    );
    let codec = tampered(good(), |header| header.attributes |= 6);
    assert_eq!(code(codec, &rules), ErrorCode::UNKNOWN_SERVER_ERROR);
}

#[test]
fn insane_headers_are_invalid_records() {
    let rules = RecordRules::default();
    let changes: [fn(&mut BatchHeader); 6] = [
        |header| header.records_count = 3,
        |header| header.records_count = 0,
        |header| header.last_offset_delta = 4,
        |header| header.attributes |= 1 << 5,
        |header| header.producer_id = ProducerId::new(9),
        |header| (header.records_count, header.last_offset_delta) = (i32::MIN, i32::MAX),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let bytes = tampered(batch(Codec::None, &[NOW, NOW]), change);
        assert_eq!(
            code(bytes, &rules),
            ErrorCode::INVALID_RECORD,
            "change {at}"
        );
    }
    let idempotent = tampered(batch(Codec::None, &[NOW, NOW]), |header| {
        header.producer_id = ProducerId::new(9);
        header.producer_epoch = ProducerEpoch::new(0);
        header.base_sequence = 0;
    });
    assert!(check(idempotent, &rules).is_ok());
}

#[test]
fn wrong_maxima_are_corrected_from_the_records() {
    let sent = tampered(batch(Codec::None, &[NOW, at(9)]), |header| {
        header.max_timestamp = at(77);
    });
    let stored = check(sent, &RecordRules::default()).unwrap();
    assert_eq!(header(&stored).max_timestamp, at(9));
}

#[test]
fn every_record_out_of_bounds_is_named() {
    let rules = RecordRules::default();
    let late = at(3_600_001);
    let refusal = check(batch(Codec::None, &[NOW, late, late]).freeze(), &rules).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(
        refusal.text.as_deref(),
        Some("One or more records have been rejected due to invalid timestamp")
    );
    let indexes: Vec<i32> = refusal.faults.iter().map(|fault| fault.index).collect();
    assert_eq!(indexes, [1, 2]);
    let lowest = NOW.value() - i64::MAX;
    let expected = format!(
        "Timestamp {late} of message with offset 1 is out of range. The timestamp should be \
         within [{lowest}, 1003600000]"
    );
    assert_eq!(&*refusal.faults[0].text, expected);
    assert!(check(batch(Codec::None, &[TimestampMs::NONE]).freeze(), &rules).is_ok());
    assert!(check(batch(Codec::None, &[at(3_600_000)]).freeze(), &rules).is_ok());
}

#[test]
fn a_closed_batch_is_judged_by_its_header() {
    let rules = RecordRules::default();
    let late = batch(Codec::Zstd, &[NOW, at(3_600_001)]).freeze();
    let refusal = check(late, &rules).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(refusal.faults.len(), 1);
    // A header that exaggerates is opened and corrected.
    let exaggerated = tampered(batch(Codec::Zstd, &[NOW]), |header| {
        header.max_timestamp = at(9_999_999);
    });
    let stored = check(exaggerated, &rules).unwrap();
    assert_eq!(header(&stored).max_timestamp, NOW);
    // Too old a record is only found where the topic bounds the past.
    let bounded = RecordRules {
        timestamp_before_max_ms: 10,
        ..RecordRules::default()
    };
    let old = || batch(Codec::Zstd, &[at(-11), NOW]).freeze();
    assert!(check(old(), &rules).is_ok());
    assert_eq!(code(old(), &bounded), ErrorCode::INVALID_TIMESTAMP);
}

#[test]
fn closed_batches_are_opened_on_demand_only() {
    let broken = || {
        let sent = batch(Codec::Lz4, &[NOW]);
        let mut bytes = BytesMut::from(&sent[..BATCH_HEADER_LEN]);
        bytes.extend_from_slice(b"this is no lz4 frame");
        tampered(bytes, |header| header.batch_length = 49 + 20)
    };
    assert!(check(broken(), &RecordRules::default()).is_ok());
    let full = RecordRules {
        open_all: true,
        ..RecordRules::default()
    };
    assert_eq!(code(broken(), &full), ErrorCode::UNKNOWN_SERVER_ERROR);
}

#[test]
fn compacted_topics_need_keys() {
    let rules = RecordRules {
        compacted: true,
        ..RecordRules::default()
    };
    for codec in Codec::ALL {
        let refusal = check(keyless(codec, 4), &rules).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::INVALID_RECORD);
        let indexes: Vec<i32> = refusal.faults.iter().map(|fault| fault.index).collect();
        assert_eq!(indexes, [0, 1, 2, 3], "{codec}");
        let text = "Compacted topic cannot accept message without key in topic partition orders-3";
        assert!(refusal.faults.iter().all(|fault| &*fault.text == text));
        let shown = |index: i32| format!("RecordError(batchIndex={index}, message='{text}')");
        let expected = format!(
            "One or more records have been rejected due to 4 record errors in total, and only \
             showing the first three errors at most: [{}, {}, {}]",
            shown(0),
            shown(1),
            shown(2)
        );
        assert_eq!(refusal.text, Some(expected), "{codec}");
    }
    // Time outweighs keys, and each record is told of its own fault.
    let mut builder = BatchBuilder::new(Codec::Lz4);
    builder.add(NOW, None, Some(b"v"), &[]).unwrap();
    builder.add(NOW, Some(b"k"), Some(b"v"), &[]).unwrap();
    builder.add(at(3_600_001), Some(b"k"), None, &[]).unwrap();
    let refusal = check(builder.build().unwrap(), &rules).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::INVALID_TIMESTAMP);
    let told: Vec<_> = refusal
        .faults
        .iter()
        .map(|fault| (fault.index, fault.text.starts_with("Compacted topic")))
        .collect();
    assert_eq!(told, [(0, true), (2, false)]);
    assert!(check(keyless(Codec::None, 1), &RecordRules::default()).is_ok());
    assert!(check(batch(Codec::Gzip, &[NOW]).freeze(), &rules).is_ok());
}

#[test]
fn a_closed_batch_may_not_invent_records() {
    let rules = RecordRules::default();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for count in [1_000, i32::MAX] {
            let liar = tampered(batch(codec, &[NOW]), |header| {
                header.records_count = count;
                header.last_offset_delta = count - 1;
            });
            let refusal = check(liar, &rules).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::INVALID_RECORD, "{codec:?} {count}");
        }
    }
    let honest = check(keyless(Codec::Zstd, 20_000), &rules).unwrap();
    assert_eq!(header(&honest).records_count, 20_000);
}

#[test]
fn another_codec_is_forced() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let rules = RecordRules {
                codec: Some(to),
                ..RecordRules::default()
            };
            let sent = tampered(batch(from, &[NOW, at(4)]), |header| {
                header.producer_id = ProducerId::new(5);
                header.base_sequence = 8;
            });
            let stored = check(sent.clone(), &rules).unwrap();
            let (before, after) = (header(&sent), header(&stored));
            assert_eq!(after.codec().unwrap(), to);
            assert_eq!(after.total_len(), stored.len());
            let expected = BatchHeader {
                batch_length: after.batch_length,
                crc: after.crc,
                attributes: after.attributes,
                ..before
            };
            assert_eq!(after, expected, "{from:?} to {to:?}");
            let plain = |bytes: &[u8], codec| {
                decompress(codec, &bytes[BATCH_HEADER_LEN..], 1 << 20).unwrap()
            };
            assert_eq!(plain(&stored, to), plain(&sent, from));
        }
    }
}

#[test]
fn log_append_time_replaces_the_producers() {
    let rules = RecordRules {
        log_append_time: true,
        ..RecordRules::default()
    };
    for codec in [Codec::None, Codec::Gzip] {
        let stored = check(batch(codec, &[at(9_999_999)]).freeze(), &rules).unwrap();
        let header = header(&stored);
        assert_eq!(header.max_timestamp, NOW);
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    }
    let claimed = || {
        let sent = batch(Codec::None, &[NOW]);
        tampered(sent, |header| header.attributes |= LOG_APPEND_TIME_BIT)
    };
    assert_eq!(code(claimed(), &rules), ErrorCode::INVALID_TIMESTAMP);
    let cleared = check(claimed(), &RecordRules::default()).unwrap();
    assert_eq!(header(&cleared).timestamp_type(), TimestampType::CreateTime);
    assert_eq!(header(&cleared).max_timestamp, NOW);
}

#[test]
fn a_claimed_delete_horizon_is_taken_away() {
    let sent = batch(Codec::None, &[NOW]);
    let claimed = tampered(sent, |header| header.attributes |= DELETE_HORIZON_BIT);
    let cleared = check(claimed, &RecordRules::default()).unwrap();
    assert!(!header(&cleared).has_delete_horizon());
}

#[test]
fn a_claim_of_many_records_costs_nothing() {
    let rules = RecordRules {
        log_append_time: true,
        ..RecordRules::default()
    };
    let claimed = tampered(batch(Codec::Zstd, &[NOW]), |header| {
        header.attributes |= LOG_APPEND_TIME_BIT;
        header.records_count = i32::MAX;
        header.last_offset_delta = i32::MAX - 1;
    });
    let refusal = check(claimed, &rules).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(refusal.faults.len(), 1);
    assert_eq!(refusal.faults[0].index, 0);
}

#[test]
fn a_thousand_faults_are_listed_and_all_are_counted() {
    let compacted = RecordRules {
        compacted: true,
        ..RecordRules::default()
    };
    let many = refusal::MAX_FAULTS + 7;
    let refusal = check(keyless(Codec::Gzip, many), &compacted).unwrap_err();
    assert_eq!(refusal.faults.len(), refusal::MAX_FAULTS);
    let text = refusal.text.unwrap();
    assert!(
        text.contains("due to 1007 record errors in total"),
        "{text}"
    );
}

#[test]
fn what_opens_too_far_is_refused() {
    let value = vec![0; 3 << 20];
    let bomb = |codec| {
        let mut builder = BatchBuilder::new(codec);
        for _ in 0..22 {
            builder.add(NOW, Some(b"k"), Some(&value), &[]).unwrap();
        }
        builder.build().unwrap().freeze()
    };
    let full = RecordRules {
        open_all: true,
        max_message_bytes: 8 << 20,
        ..RecordRules::default()
    };
    let plain = RecordRules {
        codec: Some(Codec::None),
        ..RecordRules::default()
    };
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let refusal = check(bomb(codec), &full).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::MESSAGE_TOO_LARGE, "{codec}");
        let text = refusal.text.unwrap();
        assert!(text.contains("67108864 bytes"), "{codec}: {text}");
    }
    // Within the bound, but too large to be stored in the open; a fault of a record counts first.
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.add(NOW, Some(b"k"), Some(&value), &[]).unwrap();
    assert_eq!(
        code(builder.clone().build().unwrap(), &plain),
        ErrorCode::MESSAGE_TOO_LARGE
    );
    builder.add(at(3_600_001), None, None, &[]).unwrap();
    assert_eq!(
        code(builder.build().unwrap(), &plain),
        ErrorCode::INVALID_TIMESTAMP
    );
}

#[test]
fn offsets_must_be_dense() {
    // Two records whose deltas are both 0: the second's is at a fixed place behind the first.
    let mut bytes = batch(Codec::None, &[NOW, NOW]);
    let record = (bytes.len() - BATCH_HEADER_LEN) / 2;
    bytes[BATCH_HEADER_LEN + record + 3] = 0;
    let sent = tampered(bytes, |_| {});
    assert_eq!(
        code(sent, &RecordRules::default()),
        ErrorCode::INVALID_RECORD
    );
}

#[test]
fn every_truncation_and_flip_is_answered() {
    let sent = batch(Codec::None, &[NOW, at(1)]);
    for end in 0..sent.len() {
        let cut = Bytes::copy_from_slice(&sent[..end]);
        let refusal = single_batch(cut, true).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::INVALID_RECORD, "cut at {end}");
    }
    for at in 0..sent.len() {
        for bit in 0..8 {
            let mut flipped = sent.clone();
            flipped[at] ^= 1 << bit;
            // No panic, whatever the answer.
            if let Ok(batch) = single_batch(flipped.freeze(), true) {
                let _ = check(batch, &RecordRules::default());
            }
        }
    }
}

#[test]
fn requests_fail_as_a_whole_on_the_first_look() {
    let mut short = batch(Codec::None, &[NOW]);
    short[8..12].copy_from_slice(&13_i32.to_be_bytes());
    let refusal = first_look(&short).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::CORRUPT_MESSAGE);
    let text = "Record size 13 is less than the minimum record overhead (14)";
    assert_eq!(refusal.text.as_deref(), Some(text));
    let mut magic = batch(Codec::None, &[NOW]);
    magic[16] = 0xff;
    let refusal = first_look(&magic).unwrap_err();
    assert_eq!(
        refusal.text.as_deref(),
        Some("Invalid magic found in record: -1")
    );
    let mut huge = batch(Codec::None, &[NOW]);
    huge[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let refusal = first_look(&huge).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(first_look(b"").unwrap(), FirstLook::Nothing);
}

#[test]
fn exactly_one_batch_of_the_new_format() {
    let one = batch(Codec::None, &[NOW]);
    let followed_by = |tail: &[u8]| {
        let mut bytes = one.clone();
        bytes.extend_from_slice(tail);
        single_batch(bytes.freeze(), true).map_err(|refusal| refusal.code)
    };
    assert_eq!(followed_by(&[]).unwrap(), one.clone().freeze());
    assert_eq!(followed_by(&[0; 11]).unwrap().len(), one.len());
    assert_eq!(followed_by(&[0; 12]), Err(ErrorCode::CORRUPT_MESSAGE));
    assert_eq!(followed_by(&one), Err(ErrorCode::INVALID_RECORD));
    assert!(followed_by(&one[..one.len() - 1]).is_ok());
    let mut old = one.clone();
    old[16] = 1;
    let refusal = single_batch(old.freeze(), true).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::INVALID_RECORD);
}

#[test]
fn zstd_needs_a_version_that_knows_it() {
    let sent = batch(Codec::Zstd, &[NOW]).freeze();
    let refusal = single_batch(sent.clone(), false).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert!(single_batch(sent, true).is_ok());
    assert!(single_batch(batch(Codec::Lz4, &[NOW]).freeze(), false).is_ok());
}
