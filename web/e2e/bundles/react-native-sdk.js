import { CometChat } from "@cometchat/chat-sdk-react-native";

window.CometChat = CometChat;
