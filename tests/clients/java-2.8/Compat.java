import java.util.List;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.KafkaFuture;

/** What the 2.8 clients name otherwise than the 4.x ones. */
final class Compat {
    private Compat() {
    }

    static KafkaFuture<TopicDescription> describeTopic(Admin admin, String topic) {
        return admin.describeTopics(List.of(topic)).values().get(topic);
    }
}
