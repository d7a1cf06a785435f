import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Produces records made from a seed and reads every byte of them back. */
final class Records {
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final long FIRST_TIMESTAMP = 1_700_000_000_000L;

    private Records() {
    }

    static KafkaProducer<byte[], byte[]> producer(Properties security, String... settings) {
        Properties all = with(security, settings);
        all.putIfAbsent("acks", "all");
        all.putIfAbsent("delivery.timeout.ms", "30000");
        all.putIfAbsent("request.timeout.ms", "15000");
        all.putIfAbsent("max.block.ms", "15000");
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Properties security, String... settings) {
        Properties all = with(security, settings);
        all.putIfAbsent("enable.auto.commit", "false");
        all.putIfAbsent("auto.offset.reset", "none");
        all.putIfAbsent("default.api.timeout.ms", "15000");
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static Properties with(Properties base, String... settings) {
        Properties all = new Properties();
        all.putAll(base);
        for (int i = 0; i < settings.length; i += 2) {
            all.setProperty(settings[i], settings[i + 1]);
        }
        return all;
    }

    /** Half of a value is random and half repeats, so that codecs both fail and succeed at shrinking it. */
    static ProducerRecord<byte[], byte[]> make(TopicPartition at, long seed, int size) {
        Random random = new Random(seed);
        byte[] value = new byte[size];
        random.nextBytes(value);
        Arrays.fill(value, size / 2, size, (byte) seed);
        byte[] key = seed % 7 == 0 ? null : ("key-" + seed).getBytes(StandardCharsets.UTF_8);
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
            at.topic(), at.partition(), FIRST_TIMESTAMP + seed, key, seed % 11 == 0 ? null : value);
        record.headers().add("seed", Long.toString(seed).getBytes(StandardCharsets.UTF_8));
        if (seed % 5 == 0) {
            record.headers().add("empty", new byte[0]).add("none", null);
        }
        return record;
    }

    /** Sends {@code count} records and returns the offset of the first one. */
    static long send(KafkaProducer<byte[], byte[]> producer, TopicPartition at, long firstSeed, int count, int size)
        throws Exception {
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            answers.add(producer.send(make(at, firstSeed + i, size)));
        }
        producer.flush();
        long first = answers.get(0).get().offset();
        for (int i = 0; i < count; i++) {
            RecordMetadata answer = answers.get(i).get();
            Report.same("offset of record " + i, first + i, answer.offset());
            Report.same("partition of record " + i, at.partition(), answer.partition());
        }
        return first;
    }

    /** Reads {@code count} records from {@code offset} on and compares key, value, headers and timestamp. */
    static void verify(KafkaConsumer<byte[], byte[]> consumer, TopicPartition at, long offset, long firstSeed,
                       int count, int size) {
        consumer.assign(List.of(at));
        consumer.seek(at, offset);
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        int seen = 0;
        while (seen < count) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("only " + seen + " of " + count + " records came in " + PATIENCE);
            }
            for (ConsumerRecord<byte[], byte[]> got : consumer.poll(Duration.ofSeconds(1))) {
                if (seen == count) {
                    break;
                }
                compare(got, make(at, firstSeed + seen, size), offset + seen);
                seen++;
            }
        }
    }

    private static void compare(ConsumerRecord<byte[], byte[]> got, ProducerRecord<byte[], byte[]> sent, long offset) {
        Report.same("offset", offset, got.offset());
        Report.same("timestamp at " + offset, sent.timestamp(), got.timestamp());
        bytes("key at " + offset, sent.key(), got.key());
        bytes("value at " + offset, sent.value(), got.value());
        Header[] wanted = sent.headers().toArray();
        Header[] found = got.headers().toArray();
        Report.same("number of headers at " + offset, wanted.length, found.length);
        for (int i = 0; i < wanted.length; i++) {
            Report.same("header key at " + offset, wanted[i].key(), found[i].key());
            bytes("header " + wanted[i].key() + " at " + offset, wanted[i].value(), found[i].value());
        }
    }

    private static void bytes(String what, byte[] wanted, byte[] got) {
        if (!Arrays.equals(wanted, got)) {
            throw new AssertionError(what + ": wanted " + length(wanted) + ", got " + length(got) + " or other bytes");
        }
    }

    private static String length(byte[] bytes) {
        return bytes == null ? "null" : bytes.length + " bytes";
    }
}
