import { CometChat } from "@cometchat/chat-sdk-javascript";
import { CometChatUIKit, CometChatUsers, UIKitSettingsBuilder } from "@cometchat/chat-uikit-react";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

window.CometChat = CometChat;

// What an app on the UI kit does, with the list of people and nothing else.
window.startKit = async ({ appId, host, uid, authKey }) => {
  const settings = new UIKitSettingsBuilder().setAppId(appId).setRegion("us").setAuthKey(authKey).subscribePresenceForAllUsers()
    .setAdminHost(host).setClientHost(host).build();
  await CometChatUIKit.init(settings);
  await CometChatUIKit.login(uid);
  createRoot(document.body.appendChild(document.createElement("main"))).render(createElement(CometChatUsers));
};
