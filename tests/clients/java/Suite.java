import java.io.FileReader;
import java.io.Reader;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * What an administrator and an application do with a broker, by the Java clients. Compiled against every version of
 * the clients under test, so it uses only what the oldest of them has.
 *
 * Arguments: a client properties file, and a prefix for the names of topics and users.
 */
public final class Suite {
    private static final int RECORDS = 400;
    private static final int SIZE = 700;

    private final Report report = new Report();
    private final Properties client;
    private final String prefix;
    private final String topic;
    private final Admin admin;

    private Suite(Properties client, String prefix) {
        this.client = client;
        this.prefix = prefix;
        this.topic = prefix + "suite";
        this.admin = Admin.create(Records.with(client, "default.api.timeout.ms", "20000", "request.timeout.ms", "15000"));
    }

    public static void main(String[] args) throws Exception {
        Properties client = new Properties();
        try (Reader file = new FileReader(args[0])) {
            client.load(file);
        }
        Suite suite = new Suite(client, args[1]);
        suite.topics();
        suite.records();
        suite.offsets();
        suite.configs();
        suite.acls();
        suite.scram();
        suite.deletion();
        suite.report.exit();
    }

    private void topics() {
        report.check("cluster", () -> {
            if (get(admin.describeCluster().nodes()).isEmpty()) {
                throw new AssertionError("no node");
            }
            Report.same("length of the cluster id", true, get(admin.describeCluster().clusterId()).length() > 0);
        });
        report.check("create topic", () ->
            // The records carry timestamps of years ago, which retention by time would delete.
            get(admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1)
                .configs(Map.of("retention.ms", "-1")))).all()));
        report.refused("create topic again", TopicExistsException.class, () ->
            get(admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all()));
        report.refused("create a topic with an illegal name", InvalidTopicException.class, () ->
            get(admin.createTopics(List.of(new NewTopic("a/b", 1, (short) 1))).all()));
        report.check("create partitions", () ->
            get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all()));
        report.check("describe topic", () -> {
            TopicDescription found = until(() -> get(Compat.describeTopic(admin, topic)), d -> d.partitions().size() == 3);
            Report.same("partitions", 3, found.partitions().size());
            found.partitions().forEach(p -> Report.same("in-sync replicas", p.replicas(), p.isr()));
        });
        report.check("list topics", () ->
            Report.same("listed", true, get(admin.listTopics().names()).contains(topic)));
        report.refused("describe an absent topic", UnknownTopicOrPartitionException.class, () ->
            get(Compat.describeTopic(admin, prefix + "absent")));
    }

    private void records() {
        TopicPartition at = new TopicPartition(topic, 0);
        long seed = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (String idempotent : List.of("true", "false")) {
                long first = seed;
                seed += RECORDS;
                String name = "records " + codec + (idempotent.equals("true") ? " idempotent" : "");
                report.check(name, () -> {
                    try (KafkaProducer<byte[], byte[]> producer = Records.producer(client,
                            "compression.type", codec, "enable.idempotence", idempotent, "linger.ms", "5");
                         KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client)) {
                        long offset = Records.send(producer, at, first, RECORDS, SIZE);
                        Records.verify(consumer, at, offset, first, RECORDS, SIZE);
                    }
                });
            }
        }
        for (String acks : List.of("0", "1")) {
            report.check("records acks=" + acks, () -> {
                TopicPartition other = new TopicPartition(topic, Integer.parseInt(acks) + 1);
                try (KafkaProducer<byte[], byte[]> producer = Records.producer(client,
                        "acks", acks, "enable.idempotence", "false");
                     KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client)) {
                    for (int i = 0; i < RECORDS; i++) {
                        producer.send(Records.make(other, i, SIZE));
                    }
                    producer.flush();
                    Records.verify(consumer, other, 0, 0, RECORDS, SIZE);
                }
            });
        }
        report.check("one large record", () -> {
            try (KafkaProducer<byte[], byte[]> producer = Records.producer(client);
                 KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client, "max.partition.fetch.bytes", "1000")) {
                long offset = Records.send(producer, at, 1, 1, 1_000_000);
                Records.verify(consumer, at, offset, 1, 1, 1_000_000);
            }
        });
        report.refused("a record above the limit", RecordTooLargeException.class, () -> {
            try (KafkaProducer<byte[], byte[]> producer = Records.producer(client, "max.request.size", "3000000")) {
                Records.send(producer, at, 1, 1, 2_000_000);
            }
        });
    }

    private void offsets() {
        TopicPartition at = new TopicPartition(topic, 0);
        report.check("offsets", () -> {
            try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client)) {
                Set<TopicPartition> one = Collections.singleton(at);
                Report.same("beginning", 0L, consumer.beginningOffsets(one).get(at));
                Report.same("end", 10L * RECORDS + 1, consumer.endOffsets(one).get(at));
                // Timestamps rise by one millisecond per record, in the order of the codecs.
                Report.same("by timestamp", 1234L, consumer.offsetsForTimes(
                    Map.of(at, 1_700_000_000_000L + 1234)).get(at).offset());
                Report.same("after the last timestamp", null, consumer.offsetsForTimes(
                    Map.of(at, 1_800_000_000_000L)).get(at));
            }
            Report.same("latest by admin", 10L * RECORDS + 1,
                get(admin.listOffsets(Map.of(at, OffsetSpec.latest())).partitionResult(at)).offset());
        });
        report.refused("an offset past the end", OffsetOutOfRangeException.class, () -> {
            try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client)) {
                Records.verify(consumer, at, 1_000_000, 0, 1, 1);
            } catch (org.apache.kafka.clients.consumer.OffsetOutOfRangeException error) {
                throw new OffsetOutOfRangeException(error.getMessage());
            }
        });
        report.check("delete records", () -> {
            Report.same("low watermark", 1000L, get(admin.deleteRecords(
                Map.of(at, RecordsToDelete.beforeOffset(1000))).lowWatermarks().get(at)).lowWatermark());
            try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(client)) {
                Report.same("beginning", 1000L, consumer.beginningOffsets(Collections.singleton(at)).get(at));
                Records.verify(consumer, at, 1000, 1000, 100, SIZE);
            }
        });
    }

    private void configs() {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        report.check("alter a topic's config", () -> {
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(
                new ConfigEntry("retention.bytes", "123456789"), AlterConfigOp.OpType.SET)))).all());
            // A broker applies a change after it has answered, so the reader asks until it is there.
            Config config = until(() -> get(admin.describeConfigs(List.of(resource)).all()).get(resource),
                c -> "123456789".equals(c.get("retention.bytes").value()));
            Report.same("retention.bytes", "123456789", config.get("retention.bytes").value());
            Report.same("source", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("retention.bytes").source());
            Report.same("cleanup.policy", "delete", config.get("cleanup.policy").value());
        });
    }

    private void acls() {
        AclBinding binding = new AclBinding(
            new ResourcePattern(ResourceType.TOPIC, prefix + "acl", PatternType.PREFIXED),
            new AccessControlEntry("User:" + prefix + "someone", "*", AclOperation.READ, AclPermissionType.ALLOW));
        AclBindingFilter filter = binding.toFilter();
        report.check("create and describe an ACL", () -> {
            get(admin.createAcls(List.of(binding)).all());
            Report.same("bindings", 1, until(() -> get(admin.describeAcls(filter).values()), l -> !l.isEmpty()).size());
        });
        report.check("delete an ACL", () -> {
            Report.same("deleted", 1, get(admin.deleteAcls(List.of(filter)).all()).size());
            Report.same("left", 0, until(() -> get(admin.describeAcls(filter).values()), l -> l.isEmpty()).size());
        });
    }

    private void scram() {
        String user = prefix + "dave";
        report.check("create and use a SCRAM user", () -> {
            get(admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(
                user, new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "dave-secret"))).all());
            Report.same("mechanism", ScramMechanism.SCRAM_SHA_256, until(() ->
                get(admin.describeUserScramCredentials(List.of(user)).description(user)),
                d -> !d.credentialInfos().isEmpty()).credentialInfos().get(0).mechanism());
        });
        report.check("delete a SCRAM user", () ->
            get(admin.alterUserScramCredentials(List.of(
                new UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256))).all()));
    }

    private void deletion() {
        report.check("delete topic", () -> {
            get(admin.deleteTopics(List.of(topic)).all());
            until(() -> get(admin.listTopics().names()), names -> !names.contains(topic));
        });
    }

    private interface Question<T> {
        T ask() throws Exception;
    }

    /** Asks until the answer pleases; after 15 s returns the last answer for the caller to judge. */
    private static <T> T until(Question<T> question, java.util.function.Predicate<T> enough) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
        while (true) {
            T answer = null;
            try {
                answer = question.ask();
            } catch (ExecutionException error) {
                if (System.nanoTime() > deadline) {
                    throw error;
                }
            }
            if (answer != null && enough.test(answer) || System.nanoTime() > deadline) {
                return answer;
            }
            Thread.sleep(20);
        }
    }

    private static <T> T get(org.apache.kafka.common.KafkaFuture<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }
}
