import java.io.FileReader;
import java.io.Reader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialAlteration;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ClusterAuthorizationException;
import org.apache.kafka.common.errors.GroupAuthorizationException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * A REST proxy with two users: who may do what with one topic under default deny, and the exact error of each refusal.
 *
 * Arguments: an administrator's client properties file, and "groups" when the broker serves consumer groups.
 */
public final class ExampleB {
    private static final String TOPIC = "test_secure_topic";
    private static final TopicPartition AT = new TopicPartition(TOPIC, 0);
    private static final String GROUP = "secure_group";

    private ExampleB() {
    }

    public static void main(String[] args) throws Exception {
        Properties client = new Properties();
        try (Reader file = new FileReader(args[0])) {
            client.load(file);
        }
        boolean groups = args.length > 1 && args[1].equals("groups");
        Report report = new Report();
        try (Admin admin = Admin.create(client)) {
            report.check("set up topic, users and rules", () -> setUp(admin));
            Properties secure = as(client, "secure_user");
            Properties insecure = as(client, "insecure_user");
            report.check("rules have reached the node", () -> awaitRules(secure));
            allowed(report, secure, groups);
            refused(report, insecure, groups);
            withoutDescribe(report, admin, insecure);
            revoked(report, admin, secure);
        }
        report.exit();
    }

    private static void setUp(Admin admin) throws Exception {
        get(admin.createTopics(List.of(new NewTopic(TOPIC, 1, (short) 1))).all());
        List<UserScramCredentialAlteration> users = new ArrayList<>();
        for (String user : List.of("secure_user", "insecure_user")) {
            users.add(new UserScramCredentialUpsertion(
                user, new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), user + "-password"));
        }
        get(admin.alterUserScramCredentials(users).all());
        get(admin.createAcls(List.of(
            topicRule("User:secure_user", "127.0.0.1", AclOperation.READ),
            topicRule("User:secure_user", "127.0.0.1", AclOperation.DESCRIBE),
            topicRule("User:secure_user", "127.0.0.1", AclOperation.WRITE),
            topicRule("User:*", "*", AclOperation.DESCRIBE),
            new AclBinding(new ResourcePattern(ResourceType.GROUP, GROUP, PatternType.LITERAL),
                new AccessControlEntry("User:secure_user", "*", AclOperation.READ, AclPermissionType.ALLOW)))).all());
    }

    private static AclBinding topicRule(String principal, String host, AclOperation operation) {
        return new AclBinding(new ResourcePattern(ResourceType.TOPIC, TOPIC, PatternType.LITERAL),
            new AccessControlEntry(principal, host, operation, AclPermissionType.ALLOW));
    }

    private static void allowed(Report report, Properties secure, boolean groups) {
        report.check("secure_user: metadata of the topic", () -> describe(secure));
        report.check("secure_user: metadata of all topics", () ->
            Report.same("listed", true, list(secure).contains(TOPIC)));
        report.check("secure_user: idempotent producer", () -> produce(secure, "true"));
        report.check("secure_user: plain producer", () -> produce(secure, "false"));
        report.check("secure_user: assign and fetch", () -> fetch(secure, 2));
        report.check("secure_user: list offsets", () -> Report.same("end", 2L, end(secure)));
        report.refused("secure_user: describe configs", TopicAuthorizationException.class, () -> configs(secure));
        if (groups) {
            report.check("secure_user: consume as a group", () -> consume(secure, 2));
        }
    }

    private static void refused(Report report, Properties insecure, boolean groups) {
        report.check("insecure_user: metadata of the topic", () -> describe(insecure));
        report.check("insecure_user: metadata of all topics", () ->
            Report.same("listed", List.of(TOPIC), new ArrayList<>(list(insecure))));
        report.refused("insecure_user: idempotent producer", ClusterAuthorizationException.class,
            () -> produce(insecure, "true"));
        report.refused("insecure_user: plain producer", TopicAuthorizationException.class,
            () -> produce(insecure, "false"));
        report.refused("insecure_user: assign and fetch", TopicAuthorizationException.class,
            () -> fetch(insecure, 1));
        report.check("insecure_user: list offsets", () -> Report.same("end", 2L, end(insecure)));
        report.refused("insecure_user: describe configs", TopicAuthorizationException.class, () -> configs(insecure));
        report.refused("insecure_user: create a topic", TopicAuthorizationException.class, () -> {
            try (Admin admin = Admin.create(insecure)) {
                get(admin.createTopics(List.of(new NewTopic("other", 1, (short) 1))).all());
            }
        });
        report.refused("insecure_user: describe another topic", TopicAuthorizationException.class, () -> {
            try (Admin admin = Admin.create(insecure)) {
                get(Compat.describeTopic(admin, "another"));
            }
        });
        if (groups) {
            report.refused("insecure_user: consume as a group", GroupAuthorizationException.class,
                () -> consume(insecure, 1));
        }
    }

    /** Without rule 4 a topic is not even listed, and naming it is refused whether it exists or not. */
    private static void withoutDescribe(Report report, Admin admin, Properties insecure) {
        report.check("delete rule 4", () -> get(admin.deleteAcls(List.of(
            topicRule("User:*", "*", AclOperation.DESCRIBE).toFilter())).all()));
        report.check("insecure_user without rule 4: metadata of all topics", () -> {
            try (Admin other = Admin.create(insecure)) {
                until(() -> get(other.listTopics().names()).isEmpty());
            }
        });
        report.refused("insecure_user without rule 4: the last offset", TopicAuthorizationException.class,
            () -> end(insecure));
        for (String name : List.of(TOPIC, "absent")) {
            report.refused("insecure_user without rule 4: partitions of " + name, TopicAuthorizationException.class,
                () -> {
                    try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(insecure)) {
                        consumer.partitionsFor(name);
                    }
                });
        }
    }

    /** A connection that was allowed to write is refused once the rule has gone. */
    private static void revoked(Report report, Admin admin, Properties secure) {
        report.refused("secure_user: revoked on the open connection", TopicAuthorizationException.class, () -> {
            try (KafkaProducer<byte[], byte[]> producer =
                     Records.producer(secure, "enable.idempotence", "false", "metadata.max.age.ms", "300000")) {
                Records.send(producer, AT, 1, 1, 10);
                get(admin.deleteAcls(List.of(
                    topicRule("User:secure_user", "127.0.0.1", AclOperation.WRITE).toFilter())).all());
                until(() -> {
                    Records.send(producer, AT, 1, 1, 10);
                    return false;
                });
            }
        });
    }

    private static void awaitRules(Properties secure) throws Exception {
        until(() -> {
            try {
                return list(secure).contains(TOPIC);
            } catch (Exception notYet) {
                return false;
            }
        });
    }

    private static void describe(Properties user) throws Exception {
        try (Admin admin = Admin.create(user)) {
            Report.same("partitions", 1, get(Compat.describeTopic(admin, TOPIC)).partitions().size());
        }
    }

    private static java.util.Set<String> list(Properties user) throws Exception {
        try (Admin admin = Admin.create(user)) {
            return get(admin.listTopics().names());
        }
    }

    private static void produce(Properties user, String idempotent) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = Records.producer(user, "enable.idempotence", idempotent)) {
            Records.send(producer, AT, idempotent.equals("true") ? 1 : 2, 1, 10);
        }
    }

    private static void fetch(Properties user, int count) {
        try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(user)) {
            Records.verify(consumer, AT, 0, 1, count, 10);
        }
    }

    private static void consume(Properties user, int count) {
        try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(user,
                "group.id", GROUP, "auto.offset.reset", "earliest")) {
            consumer.subscribe(Collections.singleton(TOPIC));
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            int seen = 0;
            while (seen < count && System.nanoTime() < deadline) {
                seen += consumer.poll(Duration.ofSeconds(1)).count();
            }
            Report.same("records", count, seen);
        }
    }

    private static long end(Properties user) {
        try (KafkaConsumer<byte[], byte[]> consumer = Records.consumer(user)) {
            return consumer.endOffsets(Collections.singleton(AT)).get(AT);
        }
    }

    private static void configs(Properties user) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, TOPIC);
        try (Admin admin = Admin.create(user)) {
            Map<ConfigResource, ?> all = get(admin.describeConfigs(List.of(resource)).all());
            Report.same("resources", 1, all.size());
        }
    }

    private static Properties as(Properties base, String user) {
        return Records.with(base, "sasl.mechanism", "SCRAM-SHA-512", "sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"" + user
                + "\" password=\"" + user + "-password\";");
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void until(Condition condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within 15 s");
            }
            Thread.sleep(20);
        }
    }

    private static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }
}
