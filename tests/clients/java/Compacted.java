import java.io.FileReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;

/**
 * Compacted topics as an application sees them that keeps its state in one: keyed records and tombstones go in while
 * the broker cleans, and a consumer that reads from the beginning must find the state.
 *
 * Arguments: a client properties file, and a prefix for the names of topics. Compiled against every version of the
 * clients under test.
 */
public final class Compacted {
    private static final Duration PATIENCE = Duration.ofSeconds(120);
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final int KEYS = 300;
    private static final int ROUNDS = 5;
    /** Every how many keys one is deleted. */
    private static final int DELETED = 10;

    private final Properties client;
    private final TopicPartition at;
    /** Whether a reader of today still meets the tombstones of yesterday. */
    private final boolean keepsTombstones;
    /** What was acknowledged last of each key. */
    private final Map<String, Sent> state = new HashMap<>();
    private final List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
    private long sent;
    private View view;

    /** A record as its producer knows it: the value (none of a tombstone), and where and when the broker put it. */
    private static final class Sent {
        final byte[] value;
        final Future<RecordMetadata> answer;

        Sent(byte[] value, Future<RecordMetadata> answer) {
            this.value = value;
            this.answer = answer;
        }
    }

    /** What a consumer finds from the beginning to the end. */
    private static final class View {
        final Map<String, ConsumerRecord<byte[], byte[]>> last = new TreeMap<>();
        final Map<String, Integer> times = new TreeMap<>();
        /** An offset that holds no record any more, and the next one that does. */
        long hole = -1;
        long behindHole = -1;
        long end;
    }

    private Compacted(Properties client, String topic, boolean keepsTombstones) {
        this.client = client;
        this.at = new TopicPartition(topic, 0);
        this.keepsTombstones = keepsTombstones;
        for (String codec : CODECS) {
            producers.add(Records.producer(client, "enable.idempotence", "true", "compression.type", codec,
                "linger.ms", "5"));
        }
    }

    public static void main(String[] args) throws Exception {
        Properties client = new Properties();
        try (Reader file = new FileReader(args[0])) {
            client.load(file);
        }
        Report report = new Report();
        new Compacted(client, args[1] + "keeps", true).run(report, "tombstones kept");
        new Compacted(client, args[1] + "drops", false).run(report, "tombstones dropped");
        report.exit();
    }

    private void run(Report report, String what) {
        report.check("create, " + what, this::create);
        report.check("write, " + what, this::write);
        report.check("state after cleaning, " + what, this::untilClean);
        report.check("offsets, " + what, this::offsets);
        report.check("a deleted key returns, " + what, this::restore);
        report.refused("a record without a key, " + what, InvalidRecordException.class, () ->
            producers.get(0).send(new ProducerRecord<>(at.topic(), 0, null, new byte[1])).get());
        for (KafkaProducer<byte[], byte[]> producer : producers) {
            producer.close();
        }
    }

    private void create() throws Exception {
        NewTopic topic = new NewTopic(at.topic(), 1, (short) 1).configs(Map.of(
            "cleanup.policy", "compact",
            // The cleaner takes what is in no active segment; this makes segments of what came in a moment.
            "segment.ms", "50",
            "min.cleanable.dirty.ratio", "0.01",
            "delete.retention.ms", keepsTombstones ? "3600000" : "0"));
        try (Admin admin = Admin.create(client)) {
            admin.createTopics(List.of(topic)).all().get(30, TimeUnit.SECONDS);
        }
    }

    private static String key(int number) {
        return "key-" + number;
    }

    private static boolean isDeleted(int number) {
        return number % DELETED == 0;
    }

    private void put(String key, String value) {
        byte[] bytes = value == null ? null : (value + "-" + "x".repeat(100)).getBytes(StandardCharsets.UTF_8);
        KafkaProducer<byte[], byte[]> producer = producers.get((int) (sent % producers.size()));
        ProducerRecord<byte[], byte[]> record =
            new ProducerRecord<>(at.topic(), 0, key.getBytes(StandardCharsets.UTF_8), bytes);
        record.headers().add("key", key.getBytes(StandardCharsets.UTF_8));
        state.put(key, new Sent(bytes, producer.send(record)));
        sent++;
    }

    private void flush() {
        for (KafkaProducer<byte[], byte[]> producer : producers) {
            producer.flush();
        }
    }

    private void write() throws Exception {
        for (int round = 0; round < ROUNDS; round++) {
            for (int number = 0; number < KEYS; number++) {
                put(key(number), "round " + round);
            }
            // The next round may go by other producers: theirs must not overtake these.
            flush();
        }
        for (int number = 0; number < KEYS; number++) {
            if (isDeleted(number)) {
                put(key(number), null);
            }
        }
        flush();
        for (Sent last : state.values()) {
            last.answer.get();
        }
    }

    /** Writes on, since the cleaner leaves the active segment alone, until each key is there once. */
    private void untilClean() throws Exception {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (true) {
            for (int number = 0; number < 5; number++) {
                put("filler-" + number, "filler " + sent);
            }
            flush();
            view = read();
            judge();
            String rest = unclean();
            if (rest == null) {
                return;
            }
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not clean within " + PATIENCE + ": " + rest);
            }
        }
    }

    /** Why the log is not clean yet. */
    private String unclean() {
        for (int number = 0; number < KEYS; number++) {
            int times = view.times.getOrDefault(key(number), 0);
            int wanted = isDeleted(number) && !keepsTombstones ? 0 : 1;
            if (times != wanted) {
                return key(number) + " is there " + times + " times";
            }
        }
        return null;
    }

    /** What must hold at any time: the last record of each key is the last that was acknowledged. */
    private void judge() throws Exception {
        Report.same("end", sent, view.end);
        for (Map.Entry<String, Sent> entry : state.entrySet()) {
            String key = entry.getKey();
            Sent wanted = entry.getValue();
            ConsumerRecord<byte[], byte[]> found = view.last.get(key);
            if (found == null) {
                boolean legal = wanted.value == null && !keepsTombstones;
                Report.same("whether " + key + " may be missing", true, legal);
                continue;
            }
            RecordMetadata answer = wanted.answer.get();
            Report.same("offset of " + key, answer.offset(), found.offset());
            Report.same("timestamp of " + key, answer.timestamp(), found.timestamp());
            Report.same("value of " + key, true, Arrays.equals(wanted.value, found.value()));
            byte[] header = found.headers().lastHeader("key").value();
            Report.same("header of " + key, key, new String(header, StandardCharsets.UTF_8));
        }
    }

    private View read() {
        View view = new View();
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client)) {
            consumer.assign(List.of(at));
            consumer.seekToBeginning(List.of(at));
            view.end = consumer.endOffsets(List.of(at)).get(at);
            long before = -1;
            while (consumer.position(at) < view.end) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    Report.same("that offsets go forward", true, record.offset() > before);
                    if (record.offset() > before + 1 && view.hole < 0) {
                        view.hole = before + 1;
                        view.behindHole = record.offset();
                    }
                    before = record.offset();
                    String key = new String(record.key(), StandardCharsets.UTF_8);
                    view.last.put(key, record);
                    view.times.merge(key, 1, Integer::sum);
                }
                if (System.nanoTime() > deadline) {
                    throw new AssertionError("only at " + consumer.position(at) + " of " + view.end);
                }
            }
            Report.same("position at the end", view.end, consumer.position(at));
        }
        return view;
    }

    /** Cleaning moves neither end of the log, and an offset without a record stands for the next one. */
    private void offsets() {
        Report.same("whether records are gone", true, view.hole >= 0);
        try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client)) {
            Report.same("beginning", 0L, consumer.beginningOffsets(List.of(at)).get(at));
            Report.same("end", sent, consumer.endOffsets(List.of(at)).get(at));
            consumer.assign(List.of(at));
            consumer.seek(at, view.hole);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(1));
            while (records.isEmpty() && System.nanoTime() < deadline) {
                records = consumer.poll(Duration.ofSeconds(1));
            }
            long first = records.iterator().next().offset();
            // The cleaner may have gone on since.
            Report.same("that the next record follows", true, first >= view.behindHole);
        }
    }

    /** A key that was deleted can be written again, and the cleaner keeps what is new. */
    private void restore() throws Exception {
        put(key(0), "back");
        flush();
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        do {
            put("filler-0", "filler " + sent);
            flush();
            view = read();
            judge();
            if (System.nanoTime() > deadline) {
                throw new AssertionError("the tombstone stays beside what was written after it");
            }
        } while (view.times.get(key(0)) != 1);
    }
}
