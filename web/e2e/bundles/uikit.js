import { CometChat } from "@cometchat/chat-sdk-javascript";
import { CometChatUIKit, CometChatUsers, UIKitSettingsBuilder } from "@cometchat/chat-uikit-react";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

window.CometChat = CometChat;

// The kit's own style sheet asks a foreign host for a font. Of it, only that the list scrolls matters here.
document.head.appendChild(document.createElement("style")).textContent =
  ".cometchat-list__body { height: 400px; overflow-y: auto; }";

// What an app on the UI kit does, with the list of people and nothing else.
window.startKit = async ({ appId, host, uid, authKey }) => {
  const settings = new UIKitSettingsBuilder()
    .setAppId(appId)
    .setRegion("us")
    .setAuthKey(authKey)
    .subscribePresenceForAllUsers()
    .setAdminHost(host)
    .setClientHost(host)
    .build();
  await CometChatUIKit.init(settings);
  await CometChatUIKit.login(uid);
  createRoot(document.body.appendChild(document.createElement("main"))).render(createElement(CometChatUsers));
};
