#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "apps/common/control_client.h"
#include "apps/common/control_server.h"
#include "tests/apps/common/loop_thread.h"
#include "tests/apps/common/temporary_directory.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;

// A process's side in a thread of its own.
class ControlTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(setenv("OXMEM_RUNTIME_DIR", directory_.path().c_str(), 1), 0);
    std::map<std::string, ControlServer::Command> commands;
    commands["stats"] = [](const Json&) -> absl::StatusOr<Json> {
      Json json;
      json["answer"] = 42;
      json["name"] = std::string(300000, 'x');
      return json;
    };
    commands["fail"] = [](const Json&) -> absl::StatusOr<Json> {
      return absl::InternalError("no luck");
    };
    commands["two words"] = [](const Json& argument) -> absl::StatusOr<Json> {
      return Json{{"got", argument}};
    };
    auto server = ControlServer::Start(thread_.loop(), std::move(commands));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    thread_.Start();
  }
  void TearDown() override { thread_.Stop(); }

  // What the server says to bytes that are no proper request.
  std::string Exchange(const std::string& bytes) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, server_->path().data(), server_->path().size());
    const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    std::string all;
    std::array<char, 512> part;
    ssize_t count = 0;
    while ((count = recv(fd.get(), part.data(), part.size(), 0)) > 0) {
      all.append(part.data(), static_cast<std::size_t>(count));
    }
    return all;
  }

  TemporaryDirectory directory_;
  LoopThread thread_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlTest, AnswersACommandEvenWithMoreThanASocketBufferHolds) {
  const auto answer = AskProcess(server_->path(), "stats");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ((*answer)["answer"], 42);
  EXPECT_EQ((*answer)["name"].get<std::string>().size(), 300000u);
}

TEST_F(ControlTest, SaysWhoseProcessAnswered) {
  uid_t user = kNoUser;
  ASSERT_TRUE(AskProcess(server_->path(), "stats", Duration::Seconds(2), &user).ok());
  EXPECT_EQ(user, geteuid());
}

TEST_F(ControlTest, AProcessThatTakesNoQuestionsAnyMoreIsNotWaitedFor) {
  const std::string path = directory_.path() + "/full.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener.get(), 0), 0);
  const UniqueFd first(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(first.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const absl::StatusOr<Json> answer = AskProcess(path, "stats", Duration::Milliseconds(100));
  EXPECT_TRUE(absl::IsDeadlineExceeded(answer.status())) << answer.status();
}

TEST_F(ControlTest, ACommandCanHaveAnArgument) {
  const auto with = AskProcess(server_->path(), R"(two words {"a": ["x y", 1]})");
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ((*with)["got"]["a"][0], "x y");
  const auto without = AskProcess(server_->path(), "two words");
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_TRUE((*without)["got"].is_null());
  const auto wrong = AskProcess(server_->path(), "two words {nonsense");
  EXPECT_THAT(std::string(wrong.status().message()), HasSubstr("no object of JSON"));
}

TEST_F(ControlTest, AnErrorOfTheProcessReachesTheClient) {
  const auto answer = AskProcess(server_->path(), "fail");
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("no luck"));
}

TEST_F(ControlTest, AnUnknownCommandNamesTheKnownOnes) {
  const auto answer = AskProcess(server_->path(), "nonsense");
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("fail, stats"));
}

TEST(ControlAnswer, OfAnyOriginIsBounded) {
  const auto nested = [](std::size_t depth) {
    return R"({"a":)" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(ParseAnswer(nested(15)).ok());
  // What reads it would need a stack as deep.
  EXPECT_THAT(std::string(ParseAnswer(nested(16)).status().message()), HasSubstr("too deep"));
  EXPECT_THAT(std::string(ParseAnswer(nested(1000000)).status().message()), HasSubstr("too deep"));
  const auto wide = [](int members) {
    std::string text = "{\"0\":0";
    for (int i = 1; i < members; ++i) text += ",\"" + std::to_string(i) + "\":0";
    return text + "}";
  };
  EXPECT_TRUE(ParseAnswer(wide(1000)).ok());
  EXPECT_THAT(std::string(ParseAnswer(wide(1001)).status().message()), HasSubstr("too long"));
  EXPECT_TRUE(ParseAnswer(R"({"a":"[[[[[[[[[[[[[[[[[[[[{\"{{{{{{{{{"})").ok())
      << "a text is a text";
  EXPECT_TRUE(ParseAnswer("{\"a\":[0" + std::string(5000, ' ') + ",1]}").ok());
  EXPECT_FALSE(ParseAnswer("[]").ok());
  EXPECT_FALSE(ParseAnswer("").ok());
}

TEST_F(ControlTest, AnotherVersionIsRefusedWithTheOneSpoken) {
  EXPECT_THAT(Exchange("oxmem 9 stats\n"), HasSubstr("version 1"));
  EXPECT_THAT(Exchange("GET / HTTP/1.1\n"), HasSubstr("error"));
}

TEST_F(ControlTest, ATooLongRequestEndsTheConnection) {
  EXPECT_EQ(Exchange(std::string(20000, 'a')), "");
  EXPECT_TRUE(AskProcess(server_->path(), "stats").ok());
}

TEST_F(ControlTest, FindsEveryProcessAndRemovesTheSocketsOfDeadOnes) {
  // A socket whose process is gone: bound, and nobody listens.
  const std::string stale = directory_.path() + "/1-dead.sock";
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, stale.data(), stale.size());
    const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  const std::vector<ProcessAnswer> answers = AskAllProcesses("stats");
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].socket_path, server_->path());
  EXPECT_TRUE(answers[0].answer.ok());
  EXPECT_FALSE(std::filesystem::exists(stale));
}

TEST_F(ControlTest, TheSocketIsForItsUserAloneAndGoesWithTheServer) {
  const auto mode = std::filesystem::status(server_->path()).permissions();
  EXPECT_EQ(mode & (std::filesystem::perms::group_all | std::filesystem::perms::others_all),
            std::filesystem::perms::none);
  const std::string path = server_->path();
  thread_.Stop();
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace oxmem::apps
