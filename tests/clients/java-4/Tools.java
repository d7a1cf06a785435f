import java.io.ByteArrayOutputStream;
import java.io.FileReader;
import java.io.PrintStream;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.GetOffsetShell;
import org.apache.kafka.tools.VerifiableConsumer;
import org.apache.kafka.tools.consumer.ConsoleConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;

/**
 * Kafka's own command line tools for groups, as an operator uses them. Each runs as its main would, in this one JVM,
 * and is judged by what it prints.
 *
 * Arguments: an administrator's client properties file, and the group protocols that the broker serves.
 */
public final class Tools {
    private static final String TOPIC = "tools";
    private static final int PARTITIONS = 3;
    /** Of each partition. */
    private static final int RECORDS = 100;
    private static final long FIRST_TIMESTAMP = 1_700_000_000_000L;
    private static final long PATIENCE_MS = 60_000;

    private final Report report = new Report();
    private final Properties client = new Properties();
    private final String file;
    private final List<String> protocols;

    private Tools(String file, List<String> protocols) throws Exception {
        this.file = file;
        this.protocols = protocols;
        try (Reader reader = new FileReader(file)) {
            client.load(reader);
        }
    }

    public static void main(String[] args) throws Exception {
        new Tools(args[0], Arrays.asList(args).subList(1, args.length)).all();
    }

    private void all() throws Exception {
        report.check("set up", this::setUp);
        console();
        protocols.forEach(this::group);
        resets();
        deletions();
        report.check("kafka-get-offsets", this::getOffsets);
        report.check("kafka-consumer-perf-test", this::perf);
        for (String protocol : protocols) {
            report.check("VerifiableConsumer, " + protocol, () -> verifiable(protocol));
        }
        report.check("the formatters read the coordinator's topic", this::formatters);
        report.exit();
    }

    private void setUp() throws Exception {
        try (Admin admin = Admin.create(client)) {
            NewTopic topic = new NewTopic(TOPIC, PARTITIONS, (short) 1).configs(Map.of("retention.ms", "-1"));
            admin.createTopics(List.of(topic)).all().get(30, TimeUnit.SECONDS);
        }
        produce(0, RECORDS);
    }

    /** To each partition: record n has the value {@code partition-n} and a timestamp n seconds after the first. */
    private void produce(int from, int to) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = Records.producer(client)) {
            for (int partition = 0; partition < PARTITIONS; partition++) {
                for (int n = from; n < to; n++) {
                    byte[] value = (partition + "-" + n).getBytes(StandardCharsets.UTF_8);
                    producer.send(new ProducerRecord<>(TOPIC, partition, FIRST_TIMESTAMP + n * 1000L, null, value));
                }
            }
            producer.flush();
        }
    }

    private void console() {
        report.check("console consumer: everything, as a group", () -> consoleReads("console", 0, RECORDS));
        report.check("console consumer: resumes where the group committed", () -> {
            produce(RECORDS, RECORDS + 10);
            consoleReads("console", RECORDS, RECORDS + 10);
        });
        for (String protocol : protocols) {
            report.check("console consumer: group.protocol=" + protocol, () ->
                consoleReads("console-" + protocol, 0, RECORDS + 10, "--command-property", "group.protocol=" + protocol));
        }
    }

    private void consoleReads(String group, int from, int to, String... more) throws Exception {
        List<String> arguments = new ArrayList<>(List.of("--topic", TOPIC, "--group", group, "--from-beginning",
            "--max-messages", Integer.toString((to - from) * PARTITIONS), "--timeout-ms", "30000"));
        arguments.addAll(List.of(more));
        Ran ran = tool(ConsoleConsumer::main, arguments.toArray(new String[0]));
        HashSet<String> wanted = new HashSet<>();
        for (int partition = 0; partition < PARTITIONS; partition++) {
            for (int n = from; n < to; n++) {
                wanted.add(partition + "-" + n);
            }
        }
        Report.same("lines", (to - from) * PARTITIONS, ran.lines().size());
        Report.same("records", wanted, new HashSet<>(ran.lines()));
    }

    /** A group with one member, described. */
    private void group(String protocol) {
        String group = "live-" + protocol;
        report.check("a member, " + protocol, () -> {
            try (Live live = new Live(group, protocol)) {
                live.await();
                report.check(protocol + ": list", () -> {
                    Ran ran = groups("--list");
                    for (String name : List.of(group, "console", "console-" + protocol)) {
                        Report.same(name + " listed", true, ran.lines().contains(name));
                    }
                    ran = groups("--list", "--state", "stable");
                    Report.same("stable groups", "[" + group + " Stable]", names(ran, 2, group));
                    Report.same("empty group among the stable", "[]", names(ran, 2, "console"));
                    ran = groups("--list", "--type", protocol);
                    Report.same("type", "[" + group + " " + protocol + "]",
                        names(ran, 2, group).toLowerCase(java.util.Locale.ROOT));
                });
                report.check(protocol + ": describe", () -> described(group, client(group)));
                report.check(protocol + ": describe members", () -> {
                    Ran ran = groups("--describe", "--group", group, "--members", "--verbose");
                    List<String> row = row(ran, group, 0);
                    Report.same("member id", true, ran.out.contains(live.memberId()));
                    Report.same("assignment in " + row, true,
                        ran.out.contains(TOPIC + ":0,1,2") || ran.out.contains(TOPIC + "(0,1,2)"));
                });
                report.check(protocol + ": describe state", () -> {
                    Ran ran = groups("--describe", "--group", group, "--state");
                    String assignor = protocol.equals("classic") ? "range" : "uniform";
                    Report.same("state in " + ran.out, true, ran.out.contains("Stable"));
                    Report.same("assignor in " + ran.out, true, ran.out.contains(assignor));
                    List<String> row = row(ran, group, 0);
                    Report.same("members of " + row, "1", row.get(row.size() - 1));
                });
                report.check(protocol + ": reset while a member is there", () -> {
                    Ran ran = groups("--reset-offsets", "--group", group, "--topic", TOPIC, "--to-earliest",
                        "--execute");
                    Report.same("refused: " + ran.all(), true, ran.all().contains("is inactive, but the current state"));
                });
                report.check(protocol + ": delete while a member is there", () -> {
                    Ran ran = groups("--delete", "--group", group);
                    Report.same("refused: " + ran.all(), true, ran.all().contains("GroupNotEmptyException"));
                });
                report.check(protocol + ": delete offsets while subscribed", () -> {
                    Ran ran = groups("--delete-offsets", "--group", group, "--topic", TOPIC);
                    Report.same("refused: " + ran.all(), true, ran.all().contains("subscribed to it"));
                });
            }
        });
        report.check(protocol + ": describe without members", () -> {
            described(group, "-");
            Ran ran = groups("--describe", "--group", group, "--state");
            Report.same("state in " + ran.out, true, ran.out.contains("Empty"));
        });
    }

    private static String client(String group) {
        return "client-of-" + group;
    }

    /** Each partition is read to its end, by that client. */
    private void described(String group, String clientId) throws Exception {
        Ran ran = groups("--describe", "--group", group);
        for (int partition = 0; partition < PARTITIONS; partition++) {
            List<String> row = row(ran, group, partition);
            int at = row.indexOf(TOPIC);
            Report.same("a row of " + ran.out, true, at >= 0);
            // Newer tools put more columns between the partition and these.
            String end = Integer.toString(RECORDS + 10);
            Report.same("committed and end in " + row, 2L, row.stream().filter(end::equals).count());
            Report.same("lag in " + row, true, row.contains("0"));
            Report.same("client in " + row, true, row.contains(clientId));
        }
    }

    private void resets() {
        String[] each = {"--to-earliest", "--to-latest", "--to-current", "--to-offset 42", "--to-offset 100000",
            "--shift-by -10", "--shift-by -100000", "--to-datetime 2023-11-14T22:13:50.000",
            "--to-datetime 2035-01-01T00:00:00.000", "--by-duration P1D"};
        int end = RECORDS + 10;
        // In this order: the relative ones start from what the one before left.
        int[] wanted = {0, end, end, 42, end, end - 10, 0, 30, end, end};
        for (int i = 0; i < each.length; i++) {
            int to = wanted[i];
            List<String> arguments = new ArrayList<>(List.of("--reset-offsets", "--group", "console", "--topic", TOPIC));
            arguments.addAll(List.of(each[i].split(" ")));
            report.check("reset " + each[i], () -> {
                long before = committed("console", 0);
                reset("console", to, arguments, "--dry-run");
                Report.same("committed after a dry run", before, committed("console", 0));
                reset("console", to, arguments, "--execute");
                for (int partition = 0; partition < PARTITIONS; partition++) {
                    Report.same("committed", (long) to, committed("console", partition));
                }
            });
        }
        report.check("reset of one partition, by a file", () -> {
            Path plan = Files.createTempFile("plan", ".csv");
            Files.writeString(plan, TOPIC + ",1,77\n");
            try {
                Ran ran = groups("--reset-offsets", "--group", "console", "--from-file", plan.toString(), "--execute");
                Report.same("printed", "77", row(ran, "console", 1).get(row(ran, "console", 1).size() - 1));
                Report.same("committed", 77L, committed("console", 1));
                Report.same("left alone", (long) end, committed("console", 0));
            } finally {
                Files.delete(plan);
            }
        });
        report.check("the console consumer starts where it was reset to", () -> {
            groups("--reset-offsets", "--group", "console", "--topic", TOPIC, "--to-offset", "90", "--execute");
            consoleReads("console", 90, end);
        });
        report.check("reset of a group that does not exist yet", () -> {
            groups("--reset-offsets", "--group", "made", "--topic", TOPIC, "--to-offset", "7", "--execute");
            Report.same("committed", 7L, committed("made", 2));
        });
    }

    private void reset(String group, int to, List<String> arguments, String how) throws Exception {
        List<String> all = new ArrayList<>(arguments);
        all.add(how);
        Ran ran = groups(all.toArray(new String[0]));
        for (int partition = 0; partition < PARTITIONS; partition++) {
            List<String> row = row(ran, group, partition);
            Report.same("new offset in " + row, Integer.toString(to), row.get(row.size() - 1));
        }
    }

    private void deletions() {
        report.check("delete-offsets", () -> {
            Ran ran = groups("--delete-offsets", "--group", "console", "--topic", TOPIC + ":0");
            Report.same("printed: " + ran.out, true, ran.out.contains("Successful"));
            Report.same("committed", -1L, committed("console", 0));
            Report.same("left alone", (long) RECORDS + 10, committed("console", 1));
        });
        for (String group : List.of("console", "live-" + protocols.get(protocols.size() - 1), "made")) {
            report.check("delete " + group, () -> {
                Ran ran = groups("--delete", "--group", group);
                Report.same("printed: " + ran.all(), true, ran.out.contains("was successful"));
                Report.same("listed", false, groups("--list").lines().contains(group));
                ran = groups("--delete", "--group", group);
                Report.same("again: " + ran.all(), true, ran.all().contains("GroupIdNotFoundException"));
                ran = groups("--describe", "--group", group);
                Report.same("described: " + ran.all(), true, ran.all().contains("does not exist")
                    || ran.all().contains("not found"));
            });
        }
    }

    private void getOffsets() throws Exception {
        Report.same("latest", offsets(RECORDS + 10), tool(GetOffsetShell::main, "--topic", TOPIC).lines());
        Report.same("earliest", offsets(0), tool(GetOffsetShell::main, "--topic", TOPIC, "--time", "-2").lines());
        String time = Long.toString(FIRST_TIMESTAMP + 60_000);
        Report.same("by time", offsets(60), tool(GetOffsetShell::main, "--topic", TOPIC, "--time", time).lines());
    }

    private static List<String> offsets(int offset) {
        List<String> all = new ArrayList<>();
        for (int partition = 0; partition < PARTITIONS; partition++) {
            all.add(TOPIC + ":" + partition + ":" + offset);
        }
        return all;
    }

    private void perf() throws Exception {
        int all = (RECORDS + 10) * PARTITIONS;
        Ran ran = tool(ConsumerPerformance::main, "--topic", TOPIC, "--group", "perf",
            "--num-records", Integer.toString(all), "--timeout", "30000");
        List<String> header = List.of(ran.lines().get(0).split(", *"));
        List<String> figures = List.of(ran.lines().get(1).split(", *"));
        int at = header.stream().map(name -> name.contains("consumed.in.nMsg")).collect(Collectors.toList())
            .indexOf(true);
        Report.same("records in " + ran.out, Integer.toString(all), figures.get(at));
    }

    private void verifiable(String protocol) throws Exception {
        int all = (RECORDS + 10) * PARTITIONS;
        Ran ran = tool(VerifiableConsumer::main, "--topic", TOPIC, "--group-id", "verifiable-" + protocol,
            "--group-protocol", protocol, "--max-messages", Integer.toString(all), "--reset-policy", "earliest");
        for (String event : List.of("startup_complete", "partitions_assigned", "records_consumed", "offsets_committed",
            "partitions_revoked", "shutdown_complete")) {
            Report.same(event + " in " + ran.out, true, ran.out.contains("\"name\":\"" + event + "\""));
        }
        Report.same("every commit succeeded", false, ran.out.contains("\"success\":false"));
        for (int partition = 0; partition < PARTITIONS; partition++) {
            Report.same("committed", (long) RECORDS + 10, committed("verifiable-" + protocol, partition));
        }
    }

    private void formatters() throws Exception {
        Ran ran = tool(ConsoleConsumer::main, "--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "5000",
            "--formatter", "org.apache.kafka.tools.consumer.OffsetsMessageFormatter");
        Report.same("a commit of perf", true, ran.lines().stream().anyMatch(line ->
            line.contains("\"group\":\"perf\"") && line.contains("\"topic\":\"" + TOPIC + "\"")
                && line.contains("\"offset\":" + (RECORDS + 10))));
        ran = tool(ConsoleConsumer::main, "--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "5000",
            "--formatter", "org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter");
        Report.same("the group perf", true, ran.lines().stream().anyMatch(line ->
            line.contains("\"group\":\"perf\"") && line.contains("\"protocolType\":\"consumer\"")));
    }

    private long committed(String group, int partition) throws Exception {
        try (Admin admin = Admin.create(client)) {
            var all = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS);
            var one = all.get(new TopicPartition(TOPIC, partition));
            return one == null ? -1 : one.offset();
        }
    }

    private Ran groups(String... arguments) throws Exception {
        return tool(ConsumerGroupCommand::main, arguments);
    }

    /** The words of the row of a partition; of the first row that begins with the group if there are no partitions. */
    private static List<String> row(Ran ran, String group, int partition) {
        for (String line : ran.lines()) {
            List<String> words = Arrays.asList(line.trim().split("\\s+"));
            int topic = words.indexOf(TOPIC);
            boolean ofPartition = topic < 0 || topic + 1 >= words.size()
                || words.get(topic + 1).equals(Integer.toString(partition));
            if (words.get(0).equals(group) && ofPartition) {
                return words;
            }
        }
        throw new AssertionError("no row of " + group + " " + partition + " in " + ran.all());
    }

    /** The first words of the rows that begin with a name. */
    private static String names(Ran ran, int words, String name) {
        return ran.lines().stream().map(line -> line.trim().split("\\s+")).filter(row -> row[0].equals(name))
            .map(row -> String.join(" ", Arrays.copyOf(row, words))).collect(Collectors.toList()).toString();
    }

    /** What a tool printed. */
    private static final class Ran {
        final String out;
        final String err;

        Ran(ByteArrayOutputStream out, ByteArrayOutputStream err) {
            this.out = out.toString(StandardCharsets.UTF_8);
            this.err = err.toString(StandardCharsets.UTF_8);
        }

        List<String> lines() {
            return this.out.lines().filter(line -> !line.isBlank()).collect(Collectors.toList());
        }

        String all() {
            return out + err;
        }
    }

    private interface Main {
        void main(String[] arguments) throws Exception;
    }

    /** Ends a tool that wants to end the process. */
    private static final class Ended extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    /** Runs a tool with the broker's address and the client's properties besides these arguments. */
    private Ran tool(Main main, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of(
            "--bootstrap-server", client.getProperty("bootstrap.servers"), "--command-config", file));
        all.addAll(List.of(arguments));
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        ByteArrayOutputStream complained = new ByteArrayOutputStream();
        Exit.setExitProcedure((status, message) -> {
            throw new Ended();
        });
        try {
            System.setOut(new PrintStream(said, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(complained, true, StandardCharsets.UTF_8));
            main.main(all.toArray(new String[0]));
        } catch (Ended ended) {
            // What it printed tells how it went.
        } finally {
            System.out.flush();
            System.setOut(out);
            System.setErr(err);
            Exit.resetExitProcedure();
        }
        return new Ran(said, complained);
    }

    /** A consumer that reads and commits on a thread of its own until it is closed. */
    private final class Live implements AutoCloseable {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Thread thread;
        private final String group;
        private volatile boolean running = true;
        private volatile int read;
        private volatile String memberId = "";

        Live(String group, String protocol) {
            this.group = group;
            consumer = Records.consumer(client, "group.id", group, "client.id", client(group), "group.protocol", protocol,
                "auto.offset.reset", "earliest");
            consumer.subscribe(List.of(TOPIC));
            thread = new Thread(() -> {
                while (running) {
                    int count = consumer.poll(Duration.ofMillis(100)).count();
                    if (count > 0) {
                        consumer.commitSync();
                        read += count;
                    }
                    memberId = consumer.groupMetadata().memberId();
                }
                consumer.close();
            });
            thread.start();
        }

        void await() throws Exception {
            long deadline = System.currentTimeMillis() + PATIENCE_MS;
            while (read < (RECORDS + 10) * PARTITIONS) {
                if (System.currentTimeMillis() > deadline) {
                    throw new AssertionError(group + " read only " + read);
                }
                Thread.sleep(20);
            }
        }

        String memberId() {
            return memberId;
        }

        @Override
        public void close() throws Exception {
            running = false;
            thread.join(PATIENCE_MS);
        }
    }
}
