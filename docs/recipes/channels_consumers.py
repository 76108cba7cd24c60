from channels.generic.websocket import AsyncJsonWebsocketConsumer


def count(data):
    data["messages"] = data.get("messages", 0) + 1
    return data["messages"]


class Counter(AsyncJsonWebsocketConsumer):
    """Counts in the session how many messages its visitor has sent, in all tabs."""

    async def receive_json(self, content):
        await self.send_json({"messages": await self.scope["session"].amutate(count)})
