// select with default: send if there is room, and never wait.
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
	<-read // the end of main would also end the reader
}
