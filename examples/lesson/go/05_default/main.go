// select with default: send a value only if there is room, without waiting.
package main

import "fmt"

func main() {
	mailbox := make(chan string, 2)

sending:
	for _, letter := range []string{"a", "b", "c"} {
		select {
		case mailbox <- letter:
		default:
			fmt.Println("no room for", letter)
			close(mailbox)
			break sending
		}
	}

	read := make(chan bool)
	go func() {
		for letter := range mailbox {
			fmt.Println("read", letter)
		}
		fmt.Println("closed")
		close(read)
	}()
	<-read // if main returned now, the reader would end too
}
