import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.FileReader;
import java.io.PrintStream;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * One member of each of several groups, which tells its history on standard output.
 *
 * Arguments: the client properties file, the member's name, and for each group its name, its topic and the protocol:
 * range, cooperative-sticky or consumer. SIGTERM closes all members in order.
 */
public final class Members {
    private static volatile boolean running = true;

    private Members() {
    }

    public static void main(String[] args) throws Exception {
        Properties client = new Properties();
        try (Reader file = new FileReader(args[0])) {
            client.load(file);
        }
        List<Member> members = new ArrayList<>();
        for (int i = 2; i + 2 < args.length; i += 3) {
            members.add(new Member(client, args[1], args[i], args[i + 1], args[i + 2]));
        }
        List<Thread> threads = new ArrayList<>();
        for (Member member : members) {
            Thread thread = new Thread(member, member.group);
            threads.add(thread);
            thread.start();
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            running = false;
            members.forEach(member -> member.consumer.wakeup());
            for (Thread thread : threads) {
                try {
                    thread.join();
                } catch (InterruptedException interrupted) {
                    return;
                }
            }
        }));
    }

    /** A consumer that commits what it has handed out after each poll. */
    private static final class Member implements Runnable, ConsumerRebalanceListener {
        private final String name;
        private final String group;
        private final String topic;
        private final KafkaConsumer<String, String> consumer;
        private final Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
        private final History history;

        Member(Properties client, String name, String group, String topic, String protocol) {
            this.name = name;
            this.group = group;
            this.topic = topic;
            this.history = new History(group, name);
            Properties all = Records.with(client,
                "group.id", group,
                "client.id", name + "-" + group,
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false",
                "max.poll.interval.ms", "15000",
                "default.api.timeout.ms", "20000",
                "metadata.max.age.ms", "5000");
            if (protocol.equals("consumer")) {
                all.setProperty("group.protocol", "consumer");
            } else {
                all.setProperty("session.timeout.ms", "6000");
                all.setProperty("heartbeat.interval.ms", "500");
                all.setProperty("partition.assignment.strategy", protocol.equals("range")
                    ? "org.apache.kafka.clients.consumer.RangeAssignor"
                    : "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
            }
            consumer = new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
        }

        @Override
        public void run() {
            consumer.subscribe(List.of(topic), this);
            while (running) {
                try {
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                    for (ConsumerRecord<String, String> record : records) {
                        history.record(record.partition(), record.offset(), record.value());
                        TopicPartition at = new TopicPartition(record.topic(), record.partition());
                        done.put(at, new OffsetAndMetadata(record.offset() + 1));
                    }
                    commit(new HashMap<>(done));
                } catch (WakeupException asked) {
                    // The shutdown hook asks to end the loop.
                }
            }
            commit(new HashMap<>(done));
            history.say("closing", "");
            consumer.close(Duration.ofSeconds(20));
            history.say("closed", "");
        }

        private void commit(Map<TopicPartition, OffsetAndMetadata> offsets) {
            if (offsets.isEmpty()) {
                return;
            }
            try {
                consumer.commitSync(offsets);
                history.say("committed", offsets.entrySet().stream()
                    .map(one -> "[" + one.getKey().partition() + "," + one.getValue().offset() + "]")
                    .collect(Collectors.joining(",", ",\"offsets\":[", "]")));
                done.keySet().removeAll(offsets.keySet());
            } catch (KafkaException refused) {
                // A group that rebalances takes no commits; what was read is read again by the next owner.
                System.err.println(name + " in " + group + ": " + refused);
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            history.say("assigned", ",\"generation\":" + consumer.groupMetadata().generationId() + list(partitions));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            Map<TopicPartition, OffsetAndMetadata> last = new HashMap<>(done);
            last.keySet().retainAll(partitions);
            commit(last);
            done.keySet().removeAll(partitions);
            history.say("revoked", list(partitions));
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            done.keySet().removeAll(partitions);
            history.say("lost", list(partitions));
        }

        private static String list(Collection<TopicPartition> partitions) {
            return partitions.stream().map(at -> Integer.toString(at.partition()))
                .collect(Collectors.joining(",", ",\"partitions\":[", "]"));
        }
    }

    /** Lines of JSON, one a write. On Linux nanoTime is the machine's monotonic clock. */
    private static final class History {
        private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out));
        private final String who;

        History(String group, String member) {
            who = ",\"group\":\"" + group + "\",\"member\":\"" + member + "\"";
        }

        void say(String event, String fields) {
            String line = "{\"at\":" + System.nanoTime() + who + ",\"event\":\"" + event + "\"" + fields + "}\n";
            byte[] bytes = line.getBytes(StandardCharsets.UTF_8);
            OUT.write(bytes, 0, bytes.length);
        }

        void record(int partition, long offset, String value) {
            say("record", ",\"partition\":" + partition + ",\"offset\":" + offset + ",\"value\":\"" + value + "\"");
        }
    }
}
